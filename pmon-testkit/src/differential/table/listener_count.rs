//! How a scenario changes the kernel's count of listeners, so that the count can be restored.
//!
//! The rules are those of `drivers/connector/cn_proc.c` since Linux 6.6. The kernel keeps the last
//! operation of each socket. LISTEN adds one unless it was the last operation. IGNORE subtracts one
//! unless it was the last operation, or the socket has sent none.

use std::collections::HashMap;
use std::ops::Range;

use pmon_core::wire::layout;

use super::kernel::SocketId;
use super::request::{IGNORE, LISTEN};

/// Changes of the kernel's count of listeners.
#[derive(Debug, Default)]
pub(crate) struct ListenerCount {
    last: HashMap<SocketId, u32>,
    pub(crate) difference: i64,
}

impl ListenerCount {
    /// Counts a datagram that was sent to the kernel.
    pub(crate) fn sent(&mut self, socket: SocketId, bytes: &[u8]) {
        let Some(operation) = operation(bytes) else { return };
        let before = self.last.insert(socket, operation);
        match operation {
            LISTEN if before != Some(LISTEN) => self.difference += 1,
            IGNORE if before.is_some_and(|before| before != IGNORE) => self.difference -= 1,
            _ => {}
        }
    }
}

/// The operation of a request that the kernel follows.
fn operation(bytes: &[u8]) -> Option<u32> {
    let word = |field: Range<usize>| Some(u32::from_ne_bytes(bytes.get(field)?.try_into().ok()?));
    let nlmsg_len = word(layout::NLMSG_LEN)? as usize;
    let len = usize::from(u16::from_ne_bytes(bytes.get(layout::CN_LEN)?.try_into().ok()?));
    let is_whole = layout::PAYLOAD + len <= nlmsg_len && nlmsg_len <= bytes.len() && nlmsg_len <= 16 + 16384;
    (is_whole && matches!(len, 4 | 8) && (word(layout::CN_IDX)?, word(layout::CN_VAL)?) == (1, 1))
        .then(|| word(layout::MCAST_OP))?
}
