//! Converts the ring's entries (`bpf/record.h`) to datagrams with metadata, and metadata to details
//! and usage.
//!
//! The entry of an exec has much room for strings that are mostly short. Its metadata consists of
//! the used parts only, in the same order.

use pmon_core::batch::{self, Arrival, Batch};
use pmon_core::capture::{
    Credentials, Details, DetailsSubject, FatalSignal, MissReason, ProcessContext, ProcessState,
    SignalOrigin, SignalSender, Usage,
};
use pmon_core::wire::{Comm, EVENT_DATAGRAM_LEN, u16_at, u32_at, u64_at};

use super::cgroups::{Cgroups, NOT_RECEIVED};

/// Maximum bytes of a path or a file name.
const PATH: usize = 1024;
/// Bytes of `struct event`: the datagram and a count.
const EVENT: usize = EVENT_DATAGRAM_LEN + 4;
/// Bytes of `struct exit`.
const EXIT: usize = 224;
/// Bytes of `struct exit` before the origin of a signal, which few exits have.
const EXIT_WITHOUT_SIGNAL: usize = 176;
/// Bytes of `struct cgroup_path`.
const CGROUP_PATH: usize = 4368;
/// Offset of the text in `struct cgroup_path`.
const CGROUP_TEXT: usize = 12;
// Offsets in `struct exec`.
const EXE: usize = 180;
/// Bytes before a path: its length and its flags.
const HEAD: usize = 4;
const CWD: usize = EXE + HEAD + PATH + 256;
const FILENAME: usize = CWD + HEAD + PATH + 256;
const ARGS: usize = FILENAME + PATH;
const CGROUP: usize = 136;

/// Maximum bytes of an exec's metadata without the arguments.
pub(crate) const MAX_METADATA_BYTES: usize = ARGS - EVENT_DATAGRAM_LEN + HEAD + CGROUP_PATH;
/// Maximum bytes of arguments in an entry.
pub(crate) const MAX_ARGS_BYTES: usize = 128 << 10;

// Flags of a path.
const WHOLE: u16 = 1;
const DELETED: u16 = 2;
const NO_FILE: u16 = 4;

// Offsets in `struct exit`: `origin.kind` and `oom`.
const ORIGIN: usize = EXIT_WITHOUT_SIGNAL;
const OOM: usize = 216;

// Origins of a signal.
const FROM_KERNEL: u32 = 1;
const FROM_PROCESS: u32 = 2;

// Whether the OOM killer had selected a process.
const NO_OOM_VICTIM: u32 = 1;
const OOM_VICTIM: u32 = 2;

// States of a process after an exit.
const GOES_ON: u32 = 1;
const ENDED: u32 = 2;

/// Appends an event to a batch that is not full, or keeps a cgroup's path. Returns `false` if
/// nothing was appended. Malformed entries are skipped.
pub(crate) fn push(entry: &[u8], cgroups: &mut Cgroups, batch: &mut Batch) -> bool {
    let Some((datagram, rest)) = entry.split_at_checked(EVENT_DATAGRAM_LEN) else { return false };
    let arrival = Arrival { len: EVENT_DATAGRAM_LEN, sender: 0 };
    match entry.len() {
        EVENT if u32_at(rest, 0) == 0 => batch.push_with_metadata(datagram, arrival, &[]),
        EVENT => batch.push_with_metadata(datagram, arrival, &[rest]),
        EXIT => {
            let has_signal = u32_at(entry, ORIGIN) != 0 || u32_at(entry, OOM) != 0;
            let used = if has_signal { EXIT } else { EXIT_WITHOUT_SIGNAL };
            batch.push_with_metadata(datagram, arrival, &[&entry[EVENT_DATAGRAM_LEN..used]])
        }
        CGROUP_PATH => {
            let len = usize::from(u16_at(entry, 8));
            let names = entry[CGROUP_TEXT..].get(..len).unwrap_or_default();
            cgroups.insert(u64_at(entry, 0), &entry[8..CGROUP_TEXT], names);
            false
        }
        ARGS.. => {
            let path = |at: usize| &entry[at..at + HEAD + usize::from(u16_at(entry, at)).min(PATH + 256)];
            let filename_len = usize::try_from(u32_at(entry, 156) as i32).unwrap_or(0);
            let filename = &entry[FILENAME..][..filename_len.min(PATH)];
            let args = entry[ARGS..].get(..u32_at(entry, 152) as usize).unwrap_or_default();
            let cgroup = cgroups.find(u64_at(entry, CGROUP));
            let parts = [&entry[EVENT_DATAGRAM_LEN..EXE], path(EXE), path(CWD), cgroup, filename, args];
            batch.push_with_metadata(datagram, arrival, &parts)
        }
        _ => false,
    }
}

/// Whether an entry is the path of a cgroup rather than an event.
#[inline]
pub(crate) fn is_cgroup(entry: &[u8]) -> bool {
    entry.len() == CGROUP_PATH
}

/// Metadata of an event, except the count of excluded events.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EventMetadata {
    /// Details of an exec.
    Details(Box<Details>),
    /// Resource usage at an exit.
    Usage(Usage),
}

/// Converts the kernel's units to those of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Units {
    ticks_per_second: u64,
    kib_per_page: u64,
}

impl Units {
    /// Returns the units of this machine.
    pub(crate) fn new() -> Self {
        Self {
            ticks_per_second: rustix::param::clock_ticks_per_second().max(1),
            kib_per_page: rustix::param::page_size() as u64 / 1024,
        }
    }

    fn ticks(self, ns: u64) -> u64 {
        ns / (1_000_000_000 / self.ticks_per_second)
    }
}

/// Returns the number of events of a datagram's CPU that the scope excluded until the datagram.
pub(crate) fn excluded(datagram: &batch::Datagram<'_>) -> u32 {
    u32_at(datagram.metadata, 0)
}

/// Whether a datagram's metadata has the details of an exec.
pub(crate) fn has_details(datagram: &batch::Datagram<'_>) -> bool {
    datagram.metadata.len() > EXIT_WITHOUT_SIGNAL - EVENT_DATAGRAM_LEN
}

impl EventMetadata {
    /// Reads the metadata of an event; `subject` is the event if it is an exec.
    pub(crate) fn read(metadata: &[u8], subject: Option<DetailsSubject>, units: Units) -> Option<Self> {
        match subject {
            Some(subject) => {
                details(metadata, subject, units).map(|details| Self::Details(Box::new(details)))
            }
            None => match metadata.len() + EVENT_DATAGRAM_LEN {
                EXIT => {
                    let fatal_signal = fatal_signal(metadata, units);
                    Some(Self::Usage(Usage { fatal_signal, ..usage(metadata, units) }))
                }
                EXIT_WITHOUT_SIGNAL => Some(Self::Usage(usage(metadata, units))),
                _ => None,
            },
        }
    }
}

fn usage(metadata: &[u8], units: Units) -> Usage {
    // Offsets as in an entry.
    let u32 = |at| u32_at(metadata, at - EVENT_DATAGRAM_LEN);
    let u64 = |at| u64_at(metadata, at - EVENT_DATAGRAM_LEN);
    let us = |at| u64(at) / 1000;
    Usage {
        threads: u32(80),
        at_least: u32(84) != 0,
        start_ticks: units.ticks(u64(88)),
        cpu_us: us(96),
        user_us: us(104),
        system_us: us(112),
        minor_faults: u64(120),
        major_faults: u64(128),
        read_bytes: u64(136),
        write_bytes: u64(144),
        max_rss_kib: u64(152).saturating_mul(units.kib_per_page),
        process: match u32(160) {
            GOES_ON => ProcessState::Alive,
            ENDED => ProcessState::Ended { status: u32(164) },
            _ => ProcessState::Unknown,
        },
        process_cpu_us: us(168),
        fatal_signal: FatalSignal::default(),
    }
}

fn fatal_signal(metadata: &[u8], units: Units) -> FatalSignal {
    // Offsets as in an entry.
    let u32 = |at| u32_at(metadata, at - EVENT_DATAGRAM_LEN);
    let code = u32(180) as i32;
    let comm = metadata.get(200 - EVENT_DATAGRAM_LEN..).and_then(|rest| rest.first_chunk());
    let origin = match u32(ORIGIN) {
        FROM_KERNEL => SignalOrigin::Kernel { code },
        FROM_PROCESS => SignalOrigin::Process {
            code,
            sender: SignalSender {
                pid: u32(192),
                start_ticks: units.ticks(u64_at(metadata, 184 - EVENT_DATAGRAM_LEN)),
                uid: u32(196),
                comm: Comm(comm.copied().unwrap_or_default()),
            },
        },
        _ => SignalOrigin::Unknown,
    };
    let oom_victim = match u32(OOM) {
        NO_OOM_VICTIM => Some(false),
        OOM_VICTIM => Some(true),
        _ => None,
    };
    FatalSignal { oom_victim, origin }
}

fn details(metadata: &[u8], subject: DetailsSubject, units: Units) -> Option<Details> {
    // Offsets as in an entry.
    let u32 = |at| u32_at(metadata, at - EVENT_DATAGRAM_LEN);
    let u64 = |at| u64_at(metadata, at - EVENT_DATAGRAM_LEN);
    let mut rest = metadata.get(EXE - EVENT_DATAGRAM_LEN..)?;
    let mut path = |text: fn(&[u8], u16) -> Result<Vec<u8>, MissReason>| {
        let (head, names) = rest.split_at_checked(HEAD)?;
        let (names, after) = names.split_at_checked(u16_at(head, 0).into())?;
        rest = after;
        Some(text(names, u16_at(head, 2)))
    };
    let (exe, cwd, cgroup) = (path(text)?, path(text)?, path(cgroup_line)?);
    let filename_len = u32(156) as i32;
    let (filename, args) = rest.split_at_checked(usize::try_from(filename_len).unwrap_or(0))?;
    let filename = match filename_len {
        ..=0 => Err(MissReason::Unreadable),
        len if len as usize >= PATH => Err(MissReason::TooLong),
        _ => Ok(filename[..filename.len() - 1].to_vec()),
    };
    let args = if u32(160) == 0 { Ok(args.to_vec()) } else { Err(MissReason::Unreadable) };
    let mut miss = None;
    let mut known = |field: Result<Vec<u8>, _>| field.map_err(|why| miss.get_or_insert(why)).ok();
    let (exe, cwd, filename) = (known(exe), known(cwd), known(filename));
    let (args, cgroup) = (known(args), known(cgroup));
    let args_len = u64(144);
    let is_cut = args.as_ref().is_some_and(|args| (args.len() as u64) < args_len);
    let comm = metadata.get(164 - EVENT_DATAGRAM_LEN..EXE - EVENT_DATAGRAM_LEN)?;
    Some(Details {
        miss,
        ppid: Some(u32(80)),
        start_ticks: Some(units.ticks(u64(120))),
        parent_start_ticks: Some(units.ticks(u64(128))),
        ids: Some(Credentials { uid: u32(84), euid: u32(88), gid: u32(92), egid: u32(96) }),
        comm: Some(comm.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()),
        exe,
        cwd,
        filename,
        cgroup,
        args,
        args_len: is_cut.then_some(args_len),
        context: Some(ProcessContext {
            login_uid: u32(100),
            session: u32(104),
            group: u32(108),
            pid: u32(112),
            pid_namespace: u32(116),
            cgroup: u64(CGROUP),
        }),
        ..Details::missed(subject, MissReason::Gone)
    })
}

/// Returns a path in the form of `/proc`, from its names in reverse order.
fn text(names: &[u8], state: u16) -> Result<Vec<u8>, MissReason> {
    if state & WHOLE == 0 {
        return Err(MissReason::TooLong);
    }
    let mut path = Vec::with_capacity(names.len() + 10);
    let names = names.strip_suffix(b"\0").unwrap_or(names);
    for name in names.rsplit(|&byte| byte == 0) {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    if state & (DELETED | NO_FILE) != 0 {
        path.extend_from_slice(b" (deleted)");
    }
    Ok(path)
}

/// Returns the line of `/proc/<pid>/cgroup` for the hierarchy of version 2.
fn cgroup_line(names: &[u8], state: u16) -> Result<Vec<u8>, MissReason> {
    if state & NOT_RECEIVED != 0 {
        return Err(MissReason::Busy);
    }
    text(names, state & WHOLE).map(|path| [b"0::", &path[..]].concat())
}

#[cfg(test)]
mod tests;
