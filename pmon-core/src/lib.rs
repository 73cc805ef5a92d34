//! The core of pmon: process events as bytes, losses and captures, without any I/O of its own.
//!
//! The modules in the order in which data flows through them:
//!
//! * [`source`] and [`batch`]: the interface of a source of datagrams, and the memory for many
//!   datagrams;
//! * [`wire`]: the bytes of the netlink *proc connector* to typed [`wire::Event`]s, and back;
//! * [`accounting`]: sequence numbers of each CPU to exact losses;
//! * [`capture`]: records to capture files, and back.
//!
//! This crate opens no file descriptor, reads no clock and starts no thread. Time is always an
//! argument.
#![forbid(unsafe_code)]

pub mod accounting;
pub mod batch;
pub mod capture;
pub mod ids;
pub mod source;
pub mod wire;

pub use ids::{Cpu, MonoNs, Seq, Task, Tgid, Tid};
