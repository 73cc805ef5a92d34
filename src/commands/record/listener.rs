//! The control socket of a recorder, which is created again if its file disappears.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use pmon_record::WakeHandle;
use pmon_store::control::{ControlServer, ControlSocket, IncomingRequest};

use crate::terminal;

/// The control socket of a store's recorder.
pub(super) struct ControlListener {
    directory: PathBuf,
    wake: WakeHandle,
    running: Option<(ControlServer, Receiver<IncomingRequest>)>,
}

impl ControlListener {
    /// Creates the socket, and wakes up the recorder for each request. A recorder without a socket
    /// still records.
    pub(super) fn start(directory: &Path, wake: WakeHandle) -> Self {
        let mut this = Self { directory: directory.to_owned(), wake, running: None };
        if let Err(error) = this.listen() {
            terminal::eprintln(format_args!(
                "pmon: cannot listen for `pmon snapshot` and `pmon control`: {error}; the recording goes on without \
                 them"
            ));
        }
        this
    }

    /// Returns the next request, if there is one.
    pub(super) fn next(&self) -> Option<IncomingRequest> {
        self.running.as_ref()?.1.try_recv().ok()
    }

    /// Creates the socket again if its file was removed, for example with the store's directory.
    pub(super) fn restore(&mut self) {
        if !self.running.as_ref().is_some_and(|(server, _)| server.is_reachable()) {
            // The next look tries again.
            let _ = self.listen();
        }
    }

    fn listen(&mut self) -> io::Result<()> {
        let socket = ControlSocket::bind(&self.directory)?;
        let wake = self.wake.clone();
        self.running = Some(ControlServer::start(socket, move || wake.wake())?);
        Ok(())
    }
}
