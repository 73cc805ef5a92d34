//! What the tracee has not received from its native sockets.

use crate::error::InterposeError;
use crate::sockets::proxy::SocketProxy;
use crate::sockets::table::SocketTable;

/// What the tracee has not received, over all native sockets that receive events.
#[derive(Clone, Copy)]
pub(crate) struct Backlog {
    pub(crate) max: usize,
    pub(crate) min: usize,
    /// Half the number of datagrams that the smallest receive buffer holds.
    pub(crate) half: usize,
    /// Whether the model has a datagram or an error that could not be transferred.
    pub(crate) is_blocked: bool,
}

/// Returns the native sockets that receive events and that the tracee reads, with their indexes.
pub(crate) fn receivers(sockets: &SocketTable) -> impl Iterator<Item = (usize, &SocketProxy)> {
    let is_receiver = |(_, proxy): &(usize, &SocketProxy)| {
        proxy.channel.native().is_some() && !proxy.is_abandoned && proxy.socket.receives_events()
    };
    sockets.proxies.iter().enumerate().filter(is_receiver)
}

/// Notes what the kernel has dropped.
pub(crate) fn note_drops(sockets: &mut SocketTable) -> Result<(), InterposeError> {
    for native in sockets.proxies.iter_mut().filter_map(|proxy| proxy.channel.native_mut()) {
        native.note_drops()?;
    }
    Ok(())
}

pub(crate) fn is_blocked(sockets: &SocketTable) -> bool {
    sockets.proxies.iter().any(|proxy| proxy.channel.native().is_some() && proxy.is_ready())
}

/// Returns what the tracee has not received; `None` if no socket receives events.
pub(crate) fn backlog(sockets: &SocketTable) -> Option<Backlog> {
    let mut backlog = Backlog { max: 0, min: usize::MAX, half: usize::MAX, is_blocked: is_blocked(sockets) };
    for (_, proxy) in receivers(sockets) {
        let Some(native) = proxy.channel.native() else { continue };
        let model = proxy.socket.memory().rcvbuf as usize / 832;
        backlog.max = backlog.max.max(native.unread());
        backlog.min = backlog.min.min(native.unread());
        backlog.half = backlog.half.min(native.capacity().min(model) / 2);
    }
    (backlog.min != usize::MAX).then_some(backlog)
}
