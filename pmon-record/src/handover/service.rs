//! The service manager that started this process (`sd_notify(3)`), which keeps descriptors while no
//! recorder runs.

use std::env;
use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, sendmsg_addr, socket_with,
};

use super::{Descriptors, Role};

/// Variable that names the service manager's socket.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// A service manager that receives messages of this process.
#[derive(Debug)]
pub struct ServiceManager {
    socket: OwnedFd,
    address: SocketAddrUnix,
}

impl ServiceManager {
    /// Returns the service manager that started this process; `None` if it receives no messages
    /// (systemd: `NotifyAccess=`).
    ///
    /// # Errors
    /// When its address is invalid, or no socket can be opened.
    pub fn from_environment() -> io::Result<Option<Self>> {
        match env::var_os(NOTIFY_SOCKET).filter(|address| !address.is_empty()) {
            Some(address) => Self::at(&address).map(Some),
            None => Ok(None),
        }
    }

    /// Returns the service manager with this address: a path, or `@` and an abstract name
    /// (`unix(7)`).
    ///
    /// # Errors
    /// As [`ServiceManager::from_environment`].
    pub fn at(address: &OsStr) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
            [b'/', ..] => SocketAddrUnix::new(address)?,
            _ => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "NOTIFY_SOCKET is no absolute path"));
            }
        };
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, address })
    }

    /// Sends an assignment such as `READY=1` or `STATUS=...`, or several in lines.
    ///
    /// # Errors
    /// As `sendmsg(2)`.
    pub fn notify(&self, assignments: &str) -> io::Result<()> {
        self.send(assignments, &[])
    }

    /// Makes the service manager keep these descriptors instead of earlier ones, until the service
    /// is stopped (systemd: `FileDescriptorStoreMax=`, at least 7).
    ///
    /// Descriptors that this process received may be kept already. A service manager keeps a second
    /// copy of the same object only once (systemd compares them), so they are never missing.
    ///
    /// # Errors
    /// As `sendmsg(2)`. The service manager may then keep some of them; they are useless without
    /// the others.
    pub fn keep(&self, descriptors: &Descriptors) -> io::Result<()> {
        if !descriptors.is_received {
            self.forget()?;
        }
        for (name, fd) in descriptors.named() {
            // Without FDPOLL=0, the service manager waits for errors of the descriptor and drops it
            // when it has one. An overrun is an error of the socket.
            self.send(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), &[fd])?;
        }
        Ok(())
    }

    /// Makes the service manager close the descriptors that it keeps for a recorder.
    ///
    /// # Errors
    /// As `sendmsg(2)`.
    pub fn forget(&self) -> io::Result<()> {
        Role::ALL
            .iter()
            .try_for_each(|role| self.send(&format!("FDSTOREREMOVE=1\nFDNAME={}", role.name()), &[]))
    }

    fn send(&self, message: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let parts = [IoSlice::new(message.as_bytes())];
        let send = || sendmsg_addr(&self.socket, &self.address, &parts, &mut control, SendFlags::NOSIGNAL);
        rustix::io::retry_on_intr(send)?;
        Ok(())
    }
}
