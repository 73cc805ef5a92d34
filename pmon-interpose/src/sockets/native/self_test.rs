//! Chooses the kind of sockets, and checks that native ones work on this system.

use pmon_fake::native_socket::NativeSocketError;
use pmon_fake::native_socket::transport::{OverrunInjector, measure_charge, test_overrun};

use crate::error::InterposeError;
use crate::launch::options::LaunchOptions;
use crate::launch::socket_kind::{FallbackReason, SocketKind, SocketRequest};
use crate::sockets::native::namespace::NetlinkNamespace;

/// A namespace of native sockets, and the bytes that a short datagram is charged there.
type CheckedNamespace = (NetlinkNamespace, u32);

/// Chooses the kind of sockets. Returns the namespace of native ones.
pub(crate) fn choose_sockets(
    options: &LaunchOptions,
) -> Result<(SocketKind, Option<CheckedNamespace>), InterposeError> {
    let seccomp = |why| Ok((SocketKind::Seccomp { why }, None));
    if options.sockets == SocketRequest::Seccomp {
        return seccomp(FallbackReason::Requested);
    }
    let checked = match options.native_obstacle {
        Some(why) => Err(why),
        None => checked_namespace().map_err(FallbackReason::Unsupported),
    };
    match checked {
        Ok(native) => Ok((SocketKind::Native, Some(native))),
        Err(why) if options.sockets == SocketRequest::Native => Err(InterposeError::NativeSockets(why)),
        Err(why) => seccomp(why),
    }
}

/// Creates the namespace and sends an event and an overrun to a socket in it.
fn checked_namespace() -> Result<CheckedNamespace, NativeSocketError> {
    let mut namespace = NetlinkNamespace::create()?;
    let socket = namespace.open_bound()?;
    let charge = measure_charge(&socket.fd, &mut namespace.kernel, socket.tag)?;
    let injector = OverrunInjector::new(&socket.fd, charge)?;
    test_overrun(&socket.fd, &mut namespace.kernel, socket.tag, &injector)?;
    Ok((namespace, charge))
}
