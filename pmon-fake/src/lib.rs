//! A stand-in for the kernel's proc connector, for tests without root, without a kernel and without luck.
//!
//! [`FakeSource`] delivers the datagrams and the overruns that it was given, in their order, to anything that
//! takes a [`pmon_core::source::Source`]. It knows nothing of capture files.
#![forbid(unsafe_code)]

mod source;

pub use source::FakeSource;
