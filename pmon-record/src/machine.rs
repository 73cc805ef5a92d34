//! Describes this machine in the header of a capture.

use std::ffi::CStr;
use std::fs;

use pmon_core::capture::{ClockAnchor, Header, Meta, TransportInfo};
use pmon_core::wire::ByteOrder;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::{cpus, namespaces};

/// Maximum bytes of the recorded command in the header.
const MAX_COMMAND: usize = 64 << 10;

/// Returns the header of a capture that began at `start`, with a socket buffer of `socket_buffer`
/// bytes.
pub(crate) fn header(
    command: Vec<Vec<u8>>,
    transport: &TransportInfo,
    socket_buffer: u64,
    start: ClockAnchor,
) -> Header {
    let mut left = MAX_COMMAND;
    let command = command.into_iter().map_while(|mut argument| {
        argument.truncate(left);
        let is_first_or_fits = left > 0;
        left -= argument.len();
        is_first_or_fits.then_some(argument)
    });
    let uname = rustix::system::uname();
    let text = |text: &CStr| text.to_string_lossy().into_owned();
    let meta = Meta {
        tool: concat!("pmon ", env!("CARGO_PKG_VERSION")).into(),
        host: text(uname.nodename()),
        kernel: text(uname.release()),
        machine: text(uname.machine()),
        boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default(),
        cpus_online: cpus::online().len() as u32,
        ticks_per_second: rustix::param::clock_ticks_per_second() as u32,
        namespaces: namespaces::current(),
        recorder_pid: std::process::id(),
        command: command.collect(),
        transport: transport.clone(),
        socket_buffer,
        start,
        previous: None,
    };
    Header { uuid: uuid(), byte_order: ByteOrder::NATIVE, meta }
}

/// Returns 16 random bytes, marked as a version 4 UUID (RFC 9562).
fn uuid() -> [u8; 16] {
    let mut uuid = random();
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// Returns random bytes. One call returns up to 256 bytes completely once the kernel's pool is
/// initialised (`getrandom(2)`).
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = rustix::io::retry_on_intr(|| getrandom(&mut bytes[..], GetRandomFlags::empty()));
    debug_assert_eq!(filled, Ok(N));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn the_header_describes_this_machine_and_is_unique() {
        let start = Clock::new().anchor();
        let header = |command: &[&str]| {
            let command = command.iter().map(|word| word.as_bytes().to_vec()).collect();
            header(command, &TransportInfo::default(), 7, start)
        };
        let (one, other) = (header(&["true"]), header(&[&"x".repeat(200_000), "y"]));
        assert_eq!(other.meta.command, [vec![b'x'; MAX_COMMAND]]);
        assert_ne!(one.uuid, other.uuid);
        assert_eq!(one.meta.command, [b"true".to_vec()]);
        assert!(!one.meta.host.is_empty() && !one.meta.kernel.is_empty() && one.meta.boot_id.len() == 36);
        assert!(one.meta.cpus_online > 0 && one.meta.ticks_per_second > 0 && one.meta.start.mono.0 > 0);
    }
}
