//! The control socket in the filesystem: its place, its creation, and who may use it.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use super::sys::peer_groups;

/// Directory of the system's store, whose recorder may have its socket in `/run/pmon`.
pub const SYSTEM_STORE: &str = "/var/lib/pmon";
/// Directory of the system's control socket. Its creator decides who may use the socket.
const SYSTEM_RUN: &str = "/run/pmon";
/// Name of the control socket in a store.
const STORE_SOCKET: &str = ".control";
/// Maximum bytes of a path in `struct sockaddr_un`, with a zero byte.
const MAX_SOCKET_PATH: usize = 108;
/// Mode of the socket: its owner and its group may connect.
const SOCKET_MODE: u32 = 0o660;

/// Returns the paths at which the control socket of a store can be, in the order in which a client
/// tries them.
///
/// The system's store, [`SYSTEM_STORE`], has it as `/run/pmon/control` if that directory exists,
/// every other store as `.control` in its directory.
pub(super) fn socket_paths(store: &Path) -> Vec<PathBuf> {
    paths_for(store, Path::new(SYSTEM_STORE), Path::new(SYSTEM_RUN))
}

pub(super) fn paths_for(store: &Path, system_store: &Path, system_run: &Path) -> Vec<PathBuf> {
    let is_same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    let is_system = fs::metadata(store).and_then(|a| Ok(is_same(a, fs::metadata(system_store)?)));
    let in_run = is_system.unwrap_or(false).then(|| system_run.join("control"));
    in_run.into_iter().chain([store.join(STORE_SOCKET)]).collect()
}

/// The listening control socket. Its file is removed when this value is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    pub(super) identity: FileIdentity,
}

/// Device and inode of a file.
pub(super) type FileIdentity = (u64, u64);

/// Returns the identity of the file at a path, if there is one.
pub(super) fn identity_of(path: &Path) -> Option<FileIdentity> {
    let meta = fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

impl ControlSocket {
    /// Creates the control socket of a store, at the first of its paths whose directory is
    /// writable. The caller must hold the store's lock.
    ///
    /// # Errors
    /// When another process listens there, when a file that is not a socket has its name, or when
    /// the directory is not writable.
    pub fn bind(store: &Path) -> io::Result<Self> {
        let mut result = Err(io::ErrorKind::NotFound.into());
        for path in socket_paths(store) {
            result = Self::bind_at(&path);
            let is_elsewhere = |error: &io::Error| {
                matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
            };
            if !result.as_ref().is_err_and(is_elsewhere) {
                break;
            }
        }
        result
    }

    /// Creates a control socket at a path of any length, and replaces one on which no process
    /// listens.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub(super) fn bind_at(path: &Path) -> io::Result<Self> {
        let address = SocketAddress::new(path)?;
        let listener = match UnixListener::bind(address.path()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                refuse_if_used(path, &address)?;
                fs::remove_file(path)?;
                UnixListener::bind(address.path())?
            }
            bound => bound?,
        };
        // `bind(2)` applies the umask of this process. A client that connects in between is refused
        // by its credentials.
        fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
        listener.set_nonblocking(true)?;
        let identity = identity_of(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { listener, path: path.to_owned(), identity })
    }

    /// Returns the path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the process at the other end may control the recorder: root, the recorder's user,
    /// and the socket's group while the group may write to the socket.
    pub(super) fn permits(&self, client: &impl AsFd) -> bool {
        let Ok(peer) = socket_peercred(client) else { return false };
        if peer.uid.is_root() || peer.uid == geteuid() {
            return true;
        }
        let Ok(meta) = fs::symlink_metadata(&self.path) else { return false };
        meta.mode() & 0o020 != 0
            && (meta.gid() == peer.gid.as_raw() || peer_groups(client.as_fd()).contains(&meta.gid()))
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if identity_of(&self.path) == Some(self.identity) {
            // If it fails, the next recorder replaces the socket.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Connects to a control socket at a path of any length.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(SocketAddress::new(path)?.path())
}

/// Returns an error unless the file at this address is a socket on which no process listens.
fn refuse_if_used(path: &Path, address: &SocketAddress) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        let text = format!("{} is not a socket; move it away", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    match UnixStream::connect(address.path()) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        _ => {
            let text = format!("another process listens on {}", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
    }
}

/// A path that fits into `struct sockaddr_un`: the path itself, or one through a descriptor of its
/// directory.
struct SocketAddress {
    path: PathBuf,
    _directory: Option<OwnedFd>,
}

impl SocketAddress {
    fn new(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() < MAX_SOCKET_PATH {
            return Ok(Self { path: path.to_owned(), _directory: None });
        }
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty())?;
        let number = directory.as_raw_fd();
        let path = Path::new("/proc/self/fd").join(number.to_string()).join(name);
        Ok(Self { path, _directory: Some(directory) })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
