//! The client side of the control socket.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::protocol::{Reply, Request};
use super::socket::{connect, socket_paths};

/// Maximum bytes of a reply, since the server may be any process.
const MAX_REPLY: usize = 1 << 20;

/// Why a request got no reply.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ControlError {
    /// No process listens on the control socket.
    #[error(
        "no recorder of {} is running: no process listens on {}; start one with `pmon record --store`",
        .store.display(), .path.display()
    )]
    NoRecorder {
        /// The store's directory.
        store: PathBuf,
        /// The socket.
        path: PathBuf,
    },
    /// The user may not connect.
    #[error(
        "cannot connect to {}: {source}; run as root, as the recorder's user, or as a member of the socket's group",
        .path.display()
    )]
    Permission {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The store's directory does not exist, or is no directory.
    #[error("cannot find the store {}: {source}", .store.display())]
    NoStore {
        /// The store's directory.
        store: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The connection failed.
    #[error("cannot use the control socket {}: {source}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The recorder closed the connection without a reply.
    #[error("the recorder closed the connection without a reply; see its messages")]
    Closed,
    /// No reply arrived in time.
    #[error("the recorder has not replied for {} s; send SIGUSR1 to it for its state", .0.as_secs())]
    Timeout(Duration),
    /// The reply is not of this protocol.
    #[error("the reply on the control socket is malformed: {0}; check which program listens there")]
    Malformed(String),
}

/// A connection to the recorder of a store.
#[derive(Debug)]
pub struct ControlClient {
    stream: UnixStream,
    path: PathBuf,
    /// Bytes after the last reply.
    received: Vec<u8>,
}

impl ControlClient {
    /// Connects to the recorder of a store.
    ///
    /// # Errors
    /// When there is no recorder, or the user may not connect.
    pub fn connect(store: &Path) -> Result<Self, ControlError> {
        let mut failed = None;
        for path in socket_paths(store) {
            match connect(&path) {
                Ok(stream) => return Ok(Self { stream, path, received: Vec::new() }),
                Err(source) => failed = failed.or(Some((path, source))),
            }
        }
        let (path, source) = failed.unwrap_or((store.into(), io::ErrorKind::NotFound.into()));
        Err(match source.kind() {
            io::ErrorKind::PermissionDenied => ControlError::Permission { path, source },
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => match std::fs::read_dir(store) {
                Err(source) if source.kind() != io::ErrorKind::PermissionDenied => {
                    ControlError::NoStore { store: store.into(), source }
                }
                _ => ControlError::NoRecorder { store: store.into(), path },
            },
            _ => ControlError::Io { path, source },
        })
    }

    /// Sends a request, and waits for its reply for at most `timeout`.
    ///
    /// # Errors
    /// When no reply arrives.
    pub fn request(&mut self, request: &Request, timeout: Duration) -> Result<Reply, ControlError> {
        let deadline = Instant::now() + timeout;
        let sent = self
            .stream
            .set_write_timeout(Some(timeout))
            .and_then(|()| self.stream.write_all(request.to_line().as_bytes()));
        // A recorder that refuses the client replies, and closes the connection, without reading.
        match sent {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            sent => sent.map_err(|error| self.failed(error, timeout))?,
        }
        loop {
            if let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Reply::parse(&line).map_err(ControlError::Malformed);
            }
            if self.received.len() >= MAX_REPLY {
                return Err(ControlError::Malformed(format!("it is longer than {MAX_REPLY} bytes")));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ControlError::Timeout(timeout));
            }
            let mut bytes = [0; 4096];
            let read = self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut bytes));
            match read {
                Ok(0) => return Err(ControlError::Closed),
                Ok(read) => self.received.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(ControlError::Closed);
                }
                Err(error) => return Err(self.failed(error, timeout)),
            }
        }
    }

    fn failed(&self, source: io::Error, timeout: Duration) -> ControlError {
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ControlError::Timeout(timeout),
            _ => ControlError::Io { path: self.path.clone(), source },
        }
    }
}
