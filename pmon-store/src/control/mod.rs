//! The control socket of a recorder: one JSON request and one JSON reply per line.
//!
//! * `protocol`: [`Request`] and [`Reply`], the lines as types.
//! * `request_line`: from a line to a [`Request`], with errors for people.
//! * `socket`: where the socket is, how it is created, and who may use it.
//! * `server`: [`ControlServer`], the thread `pmon-control` of the recorder.
//! * `connection`: one client of the server, without system calls and clocks.
//! * `client`: [`ControlClient`], for the commands that control a recorder.
//!
//! `docs/json.md` documents the lines for other clients.

mod client;
mod connection;
mod protocol;
mod request_line;
mod server;
mod socket;
#[allow(unsafe_code, reason = "SO_PEERGROUPS has no safe wrapper")]
mod sys;

pub use client::{ControlClient, ControlError};
pub use protocol::{
    ErrorCode, Limits, LostEvents, ReloadReply, Reply, Request, RequestError, RotateReply, SnapshotReply,
    SnapshotRequest, Status, TriggerStatus, UpgradeReply,
};
pub use server::{ControlServer, IncomingRequest, ReplyHandle};
pub use socket::{ControlSocket, SYSTEM_STORE};

#[cfg(test)]
mod tests;
