//! What a scenario has done to the kernel's count of listeners, so that it can be put right afterwards.
//!
//! The rules are those of `drivers/connector/cn_proc.c` since Linux 6.6: each socket has the operation that it asked for
//! last; LISTEN counts one more unless it was the last, IGNORE one fewer unless it was the last or nothing was.

use std::collections::HashMap;

use super::host::Socket;
use super::request::{IGNORE, LISTEN};

/// The difference that was made.
#[derive(Debug, Default)]
pub(crate) struct Count {
    last: HashMap<Socket, u32>,
    pub(crate) made: i64,
}

impl Count {
    /// Takes a datagram to the kernel.
    pub(crate) fn sent(&mut self, socket: Socket, bytes: &[u8]) {
        let Some(operation) = operation(bytes) else { return };
        let before = self.last.insert(socket, operation);
        match operation {
            LISTEN if before != Some(LISTEN) => self.made += 1,
            IGNORE if before.is_some_and(|before| before != IGNORE) => self.made -= 1,
            _ => {}
        }
    }
}

/// The operation of a request that the kernel follows.
fn operation(bytes: &[u8]) -> Option<u32> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let nlmsg_len = word(0)? as usize;
    let len = usize::from(u16::from_ne_bytes(bytes.get(32..34)?.try_into().ok()?));
    let is_whole = 36 + len <= nlmsg_len && nlmsg_len <= bytes.len() && nlmsg_len <= 16 + 16384;
    (is_whole && matches!(len, 4 | 8) && (word(16)?, word(20)?) == (1, 1)).then(|| word(36))?
}
