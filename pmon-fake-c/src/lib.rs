//! The fake kernel of [`fake`] as a C library.
//!
//! `include/pmon_fake.h` is the interface; cbindgen generates it from `interface`. A kernel's
//! sockets are descriptors, which `state` and `pump_thread` serve.
#![deny(unsafe_code)]

mod call_error;
#[allow(unsafe_code, reason = "functions of a C interface take pointers, and have fixed names")]
#[allow(clippy::missing_safety_doc, reason = "the header states the requirements once for all functions")]
pub mod interface;
mod pump_thread;
mod state;
#[allow(unsafe_code, reason = "pointers of the caller, and system calls without a safe wrapper")]
mod sys;
