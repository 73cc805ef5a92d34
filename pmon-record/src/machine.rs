//! This machine: its description in the header of a capture, its CPUs, whether its kernel has
//! process events, and the namespaces of this process.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::thread;

use pmon_core::Cpu;
use pmon_core::capture::{ClockAnchor, Header, Meta, Namespaces, SignalTracing, TransportInfo};
use pmon_core::wire::ByteOrder;
use rustix::rand::{GetRandomFlags, getrandom};

/// Maximum bytes of the recorded command in the header.
const MAX_COMMAND: usize = 64 << 10;

/// Returns the header of a capture that began at `start`, with a socket buffer of `socket_buffer`
/// bytes.
pub(crate) fn header(
    command: Vec<Vec<u8>>,
    (transport, signals): (&TransportInfo, &SignalTracing),
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
        cpus_online: online_cpus().len() as u32,
        ticks_per_second: rustix::param::clock_ticks_per_second() as u32,
        namespaces: namespaces(),
        recorder_pid: std::process::id(),
        command: command.collect(),
        transport: transport.clone(),
        socket_buffer,
        start,
        previous: None,
        machine_id: fs::read_to_string("/etc/machine-id").map(|id| id.trim().to_owned()).unwrap_or_default(),
        segment: None,
        signals: signals.clone(),
    };
    Header { uuid: random_uuid(), byte_order: ByteOrder::NATIVE, meta }
}

/// Returns a random UUID for a capture: version 4 of RFC 9562, from `getrandom(2)`.
pub fn random_uuid() -> [u8; 16] {
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

/// Returns the CPUs that are online. If that cannot be read, returns as many as this process may
/// use.
pub(crate) fn online_cpus() -> Vec<Cpu> {
    let usable = || (0..thread::available_parallelism().map_or(1, |n| n.get() as u32)).map(Cpu).collect();
    cpus("online").unwrap_or_else(usable)
}

/// Returns the CPUs that are present and not online.
pub(crate) fn offline_cpus() -> Vec<Cpu> {
    let online = online_cpus();
    cpus("present").unwrap_or_default().into_iter().filter(|cpu| !online.contains(cpu)).collect()
}

fn cpus(name: &str) -> Option<Vec<Cpu>> {
    parse_cpus(fs::read_to_string(format!("/sys/devices/system/cpu/{name}")).ok()?.trim())
}

/// Parses a list such as `0-3,8`.
fn parse_cpus(list: &str) -> Option<Vec<Cpu>> {
    let mut cpus = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend((first.parse().ok()?..=last.parse().ok()?).map(Cpu));
    }
    Some(cpus)
}

/// Inode numbers of the initial namespaces (`include/linux/proc_ns.h`; fixed since 3.8, `cgroup`
/// since 4.6, `time` since 5.6).
const INITIAL_NAMESPACES: [(&str, u64); 4] =
    [("user", 0xEFFF_FFFD), ("pid", 0xEFFF_FFFC), ("cgroup", 0xEFFF_FFFB), ("time", 0xEFFF_FFFA)];

/// Returns the namespaces that a capture records.
pub(crate) fn namespaces() -> Namespaces {
    Namespaces { pid: namespace_inode("pid"), user: namespace_inode("user"), net: namespace_inode("net") }
}

/// Whether this process is in the initial namespace of this kind. Also `true` if that is unknown.
pub(crate) fn is_initial_namespace(kind: &str) -> bool {
    let inode = namespace_inode(kind);
    inode == 0 || INITIAL_NAMESPACES.iter().any(|&(name, initial)| name == kind && initial == inode)
}

/// Returns the number in the link `/proc/self/ns/KIND`, which is `KIND:[NUMBER]`; 0 if it cannot be
/// read.
fn namespace_inode(kind: &str) -> u64 {
    let link = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap_or_default();
    let number = link.to_str().and_then(|link| link.split_once('['));
    number.and_then(|(_, number)| number.trim_end_matches(']').parse().ok()).unwrap_or(0)
}

/// Whether this kernel was built with `CONFIG_PROC_EVENTS`, by its symbols (`/proc/kallsyms`);
/// `None` if it hides them.
pub(crate) fn has_process_events() -> Option<bool> {
    has_symbol(BufReader::new(File::open("/proc/kallsyms").ok()?), b"proc_fork_connector")
}

/// Whether a list of symbols contains `name`; `None` if it is empty or cannot be read.
fn has_symbol(mut symbols: impl BufRead, name: &[u8]) -> Option<bool> {
    let (mut line, mut lines) = (Vec::new(), 0);
    loop {
        line.clear();
        if symbols.read_until(b'\n', &mut line).ok()? == 0 {
            return (lines > 0).then_some(false);
        }
        lines += 1;
        if line.split(u8::is_ascii_whitespace).nth(2) == Some(name) {
            return Some(true);
        }
    }
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
            header(command, (&TransportInfo::default(), &SignalTracing::On), 7, start)
        };
        let (one, other) = (header(&["true"]), header(&[&"x".repeat(200_000), "y"]));
        assert_eq!(other.meta.command, [vec![b'x'; MAX_COMMAND]]);
        assert_ne!(one.uuid, other.uuid);
        assert_eq!([one.uuid[6] >> 4, one.uuid[8] >> 6], [4, 0b10]);
        assert_eq!(one.meta.command, [b"true".to_vec()]);
        assert!(!one.meta.host.is_empty() && !one.meta.kernel.is_empty() && one.meta.boot_id.len() == 36);
        assert!(one.meta.cpus_online > 0 && one.meta.ticks_per_second > 0 && one.meta.start.mono.0 > 0);
    }

    #[test]
    fn lists_of_cpus_are_parsed_in_the_kernels_format() {
        assert_eq!(parse_cpus("0"), Some(vec![Cpu(0)]));
        assert_eq!(parse_cpus("0-2,8,10-11"), Some([0, 1, 2, 8, 10, 11].map(Cpu).to_vec()));
        assert_eq!(parse_cpus(""), None);
    }

    #[test]
    fn this_machine_has_an_online_cpu() {
        assert!(!online_cpus().is_empty());
        assert!(offline_cpus().iter().all(|cpu| !online_cpus().contains(cpu)));
    }

    #[test]
    fn the_namespaces_of_this_process_have_numbers() {
        let Namespaces { pid, user, net } = namespaces();
        assert!(pid > 0 && user > 0 && net > 0);
    }

    #[test]
    fn a_kind_of_namespace_that_cannot_be_read_counts_as_initial() {
        assert!(is_initial_namespace("no-such-kind"));
    }

    #[test]
    fn a_symbol_is_found_by_its_whole_name() {
        let symbols = b"0000000000000000 t other\n0000000000000000 T proc_fork_connector\n";
        assert_eq!(has_symbol(&symbols[..], b"proc_fork_connector"), Some(true));
        assert_eq!(has_symbol(&symbols[..], b"fork_connector"), Some(false));
    }

    #[test]
    fn an_empty_list_of_symbols_decides_nothing() {
        assert_eq!(has_symbol(&b""[..], b"proc_fork_connector"), None);
    }
}
