//! The sans-IO heart of pmon: everything that can be said about process events without a kernel.
//!
//! In the order in which data flows:
//!
//! * [`source`] and [`batch`]: the contract of whatever delivers datagrams, and the memory they travel in;
//! * [`wire`]: the bytes of the netlink *proc connector* to typed [`wire::Event`]s, and back;
//! * [`accounting`]: per-CPU sequence numbers to exact losses;
//! * [`capture`]: records to capture bytes, and back.
//!
//! This crate opens no file descriptor, reads no clock and starts no thread. Time is always an argument.
#![forbid(unsafe_code)]

pub mod accounting;
pub mod batch;
pub mod capture;
pub mod ids;
pub mod source;
pub mod wire;

pub use ids::{Cpu, MonoNs, Seq, Task, Tgid, Tid};
