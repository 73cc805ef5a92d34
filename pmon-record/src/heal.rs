//! The kernel's count of listeners, put right.
//!
//! The kernel emits events while it counts at least one listener (`drivers/connector/cn_proc.c`,
//! `proc_event_num_listeners`). Any process can make it count too few: on Linux 6.18, by a request with an invalid operation
//! and one to ignore, on one socket, again and again. Then every listener hears nothing, without an error. What helps is
//! further listeners, until the count is one again.

use std::io;

use crate::feed::Feed;
use crate::host;
use crate::intake::{Intake, Look};
use crate::netlink::Socket;

/// Listeners that are added at the most.
const MOST: usize = 256;

/// Adds listeners until something is heard; `false` if nothing helps. They are left in the kernel's count: they only make up
/// for what somebody has taken away. `handle` is called after each look at the source.
pub(crate) fn listeners(
    intake: &mut Intake<Feed>,
    mut handle: impl FnMut(&mut Intake<Feed>, Look) -> io::Result<()>,
) -> io::Result<bool> {
    let mut helpers = Vec::new();
    intake.take_heard();
    while helpers.len() < MOST {
        // Without descriptors or memory for one more, the recorder goes on as it is.
        let Ok(mut helper) = Socket::open() else { break };
        // Its acknowledgement goes to all listeners, if the kernel counts any.
        if helper.listen(u32::from_ne_bytes(host::random())).is_err() {
            break;
        }
        helpers.push(helper);
        let look = intake.look()?;
        handle(intake, look)?;
        if intake.take_heard() {
            helpers.into_iter().for_each(Socket::leave_counted);
            return Ok(true);
        }
    }
    Ok(false)
}
