//! Entries of the ring (`bpf/record.h`): to datagrams with an annex, and annexes to details and usage.
//!
//! An entry of an exec has much room for what is mostly short. So the annex is what is filled of the entry, behind the datagram.

use pmon_core::batch::{self, Arrival, Batch};
use pmon_core::capture::{
    Credentials, Details, DetailsSubject, MissReason, ProcessContext, ProcessState, Usage,
};
use pmon_core::wire::EVENT_DATAGRAM_LEN;

use super::cgroups::Cgroups;

/// Maximum bytes of a path or a file name.
const PATH: usize = 1024;
/// `struct event`: the datagram, and a count.
const EVENT: usize = EVENT_DATAGRAM_LEN + 4;
/// `struct exit`.
const EXIT: usize = 176;
/// Size of `struct cgroup_path`, and offset of its text.
const CGROUP_PATH: usize = 4368;
const CGROUP_TEXT: usize = 12;
/// `struct exec`: where its paths, its file name and its arguments are. Each path has a head of two 16-bit numbers.
const EXE: usize = 180;
const HEAD: usize = 4;
const CWD: usize = EXE + HEAD + PATH + 256;
const FILENAME: usize = CWD + HEAD + PATH + 256;
const ARGS: usize = FILENAME + PATH;
/// Offset of the cgroup id.
const CGROUP: usize = 136;

/// Most bytes of the annex of an exec, but for its arguments.
pub(crate) const LARGEST: usize = ARGS - EVENT_DATAGRAM_LEN + HEAD + CGROUP_PATH;
/// Most bytes of arguments that an entry has room for.
pub(crate) const MOST_ARGS: usize = 128 << 10;

/// What a path is.
const WHOLE: u16 = 1;
const DELETED: u16 = 2;
const NO_FILE: u16 = 4;
/// State of a cgroup path that has not been received.
pub(super) const NOT_TOLD: u16 = 8;

/// What an exit means for its process.
const GOES_ON: u32 = 1;
const ENDED: u32 = 2;

/// Appends an event entry to a batch that is not full, or keeps the cgroup path of a path entry.
/// Returns `false` if nothing was appended. Malformed entries are skipped.
pub(crate) fn take(entry: &[u8], cgroups: &mut Cgroups, batch: &mut Batch) -> bool {
    let Some((frame, rest)) = entry.split_at_checked(EVENT_DATAGRAM_LEN) else { return false };
    let arrival = Arrival { len: EVENT_DATAGRAM_LEN, sender: 0 };
    match entry.len() {
        EVENT => match number32(entry, EVENT_DATAGRAM_LEN) {
            0 => batch.push_with_metadata(frame, arrival, &[]),
            _ => batch.push_with_metadata(frame, arrival, &[rest]),
        },
        EXIT => batch.push_with_metadata(frame, arrival, &[rest]),
        CGROUP_PATH => {
            let len = usize::from(number16(entry, 8));
            let names = entry[CGROUP_TEXT..].get(..len).unwrap_or_default();
            cgroups.insert(number64(entry, 0), &entry[8..CGROUP_TEXT], names);
            false
        }
        ARGS.. => {
            let path = |at: usize| &entry[at..at + HEAD + usize::from(number16(entry, at)).min(PATH + 256)];
            let filename = &entry[FILENAME..][..filename_len(entry)];
            let args = entry[ARGS..].get(..number32(entry, 152) as usize).unwrap_or_default();
            let cgroup = cgroups.find(number64(entry, CGROUP));
            let parts = [&entry[EVENT_DATAGRAM_LEN..EXE], path(EXE), path(CWD), cgroup, filename, args];
            batch.push_with_metadata(frame, arrival, &parts)
        }
        _ => false,
    }
}

/// Whether an entry is the path of a cgroup rather than an event.
#[inline]
pub(crate) fn is_cgroup(entry: &[u8]) -> bool {
    entry.len() == CGROUP_PATH
}

/// What an annex says besides what was left out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum More {
    /// Details of an exec.
    Details(Box<Details>),
    /// Of an exit.
    Usage(Usage),
}

/// What it takes to make the kernel's numbers those of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Units {
    ticks_per_second: u64,
    kib_per_page: u64,
}

impl Units {
    /// Those of this host.
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

/// Events of its CPU that were left out, until a datagram.
pub(crate) fn excluded(frame: &batch::Datagram<'_>) -> u32 {
    number32(frame.metadata, 0)
}

/// Whether the details of an exec are in this datagram's annex.
pub(crate) fn has_details(frame: &batch::Datagram<'_>) -> bool {
    frame.metadata.len() > EXIT - EVENT_DATAGRAM_LEN
}

impl More {
    /// Reads the annex of an event, which is of `subject` if it is an exec.
    pub(crate) fn read(metadata: &[u8], subject: Option<DetailsSubject>, units: Units) -> Option<Self> {
        // Places as in an entry.
        let entry = Fields { metadata, units };
        match subject {
            Some(subject) => entry.details(subject).map(|details| Self::Details(Box::new(details))),
            None if metadata.len() == EXIT - EVENT_DATAGRAM_LEN => Some(Self::Usage(entry.usage())),
            None => None,
        }
    }
}

#[derive(Clone, Copy)]
struct Fields<'a> {
    metadata: &'a [u8],
    units: Units,
}

impl<'a> Fields<'a> {
    fn u32(self, at: usize) -> u32 {
        number32(self.metadata, at - EVENT_DATAGRAM_LEN)
    }

    fn u64(self, at: usize) -> u64 {
        number64(self.metadata, at - EVENT_DATAGRAM_LEN)
    }

    fn usage(self) -> Usage {
        let us = |at| self.u64(at) / 1000;
        Usage {
            threads: self.u32(80),
            at_least: self.u32(84) != 0,
            start_ticks: self.units.ticks(self.u64(88)),
            cpu_us: us(96),
            user_us: us(104),
            system_us: us(112),
            minor_faults: self.u64(120),
            major_faults: self.u64(128),
            read_bytes: self.u64(136),
            write_bytes: self.u64(144),
            max_rss_kib: self.u64(152).saturating_mul(self.units.kib_per_page),
            process: match self.u32(160) {
                GOES_ON => ProcessState::Alive,
                ENDED => ProcessState::Ended { status: self.u32(164) },
                _ => ProcessState::Unknown,
            },
            process_cpu_us: us(168),
        }
    }

    fn details(self, subject: DetailsSubject) -> Option<Details> {
        let mut rest = self.metadata.get(EXE - EVENT_DATAGRAM_LEN..)?;
        let mut path = || {
            let (head, names) = rest.split_at_checked(HEAD)?;
            let (names, behind) = names.split_at_checked(number16(head, 0).into())?;
            rest = behind;
            Some((names, number16(head, 2)))
        };
        let (exe, cwd, cgroup) = (path()?, path()?, path()?);
        let (exe, cwd, cgroup) = (text(exe.0, exe.1), text(cwd.0, cwd.1), cgroup_line(cgroup.0, cgroup.1));
        let filename_len = self.u32(156) as i32;
        let (filename, args) = rest.split_at_checked(usize::try_from(filename_len).unwrap_or(0))?;
        let filename = match filename_len {
            ..=0 => Err(MissReason::Unreadable),
            len if len as usize >= PATH => Err(MissReason::TooLong),
            _ => Ok(filename[..filename.len() - 1].to_vec()),
        };
        let args_len = self.u64(144);
        let args = if self.u32(160) == 0 { Ok(args.to_vec()) } else { Err(MissReason::Unreadable) };
        let cut = args.as_ref().is_ok_and(|args| (args.len() as u64) < args_len);
        let paths = [exe.as_ref().err(), cwd.as_ref().err(), filename.as_ref().err()];
        let others = [args.as_ref().err(), cgroup.as_ref().err()];
        let miss = paths.into_iter().chain(others).flatten().next().copied();
        let comm = self.metadata.get(164 - EVENT_DATAGRAM_LEN..EXE - EVENT_DATAGRAM_LEN)?;
        Some(Details {
            miss,
            ppid: Some(self.u32(80)),
            start_ticks: Some(self.units.ticks(self.u64(120))),
            parent_start_ticks: Some(self.units.ticks(self.u64(128))),
            ids: Some(Credentials {
                uid: self.u32(84),
                euid: self.u32(88),
                gid: self.u32(92),
                egid: self.u32(96),
            }),
            comm: Some(comm.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()),
            exe: exe.ok(),
            cwd: cwd.ok(),
            filename: filename.ok(),
            cgroup: cgroup.ok(),
            args: args.ok(),
            args_len: cut.then_some(args_len),
            context: Some(ProcessContext {
                login_uid: self.u32(100),
                session: self.u32(104),
                group: self.u32(108),
                pid: self.u32(112),
                pid_namespace: self.u32(116),
                cgroup: self.u64(CGROUP),
            }),
            ..Details::missed(subject, MissReason::Gone)
        })
    }
}

/// A path as `/proc` has it, from its names, the last one first.
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
    if state & NOT_TOLD != 0 {
        return Err(MissReason::Busy);
    }
    text(names, state & WHOLE).map(|path| [b"0::", &path[..]].concat())
}

fn filename_len(entry: &[u8]) -> usize {
    usize::try_from(number32(entry, 156) as i32).unwrap_or(0).min(PATH)
}

fn number16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |&bytes| u16::from_ne_bytes(bytes))
}

fn number32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |&bytes| u32::from_ne_bytes(bytes))
}

fn number64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |&bytes| u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_from_the_root() {
        assert_eq!(text(b"true\0bin\0usr\0", WHOLE), Ok(b"/usr/bin/true".to_vec()));
        assert_eq!(text(b"", WHOLE), Ok(b"/".to_vec()));
        assert_eq!(text(b"x\0tmp\0", WHOLE | DELETED), Ok(b"/tmp/x (deleted)".to_vec()));
        assert_eq!(text(b"memfd:x\0", WHOLE | NO_FILE), Ok(b"/memfd:x (deleted)".to_vec()));
        assert_eq!(text(b"x\0tmp\0", 0), Err(MissReason::TooLong));
    }

    /// A cgroup path entry, as the BPF program writes it.
    fn cgroup_entry(id: u64, names: &[u8], state: u16) -> Vec<u8> {
        let mut entry = vec![0; CGROUP_PATH];
        entry[..8].copy_from_slice(&id.to_ne_bytes());
        entry[8..10].copy_from_slice(&(names.len() as u16).to_ne_bytes());
        entry[10..12].copy_from_slice(&state.to_ne_bytes());
        entry[CGROUP_TEXT..CGROUP_TEXT + names.len()].copy_from_slice(names);
        entry
    }

    /// Returns the cgroup details of an exec that follows these entries.
    fn exec_in(cgroup: u64, before: &[Vec<u8>]) -> (Option<MissReason>, Option<Vec<u8>>) {
        let mut exec = vec![0; ARGS + 512];
        exec[CGROUP..CGROUP + 8].copy_from_slice(&cgroup.to_ne_bytes());
        exec[156..160].copy_from_slice(&2_u32.to_ne_bytes());
        for path in [EXE, CWD] {
            exec[path + 2..path + 4].copy_from_slice(&WHOLE.to_ne_bytes());
        }
        let (mut cgroups, mut batch) = (Cgroups::default(), Batch::with_metadata(4, 1 << 16, LARGEST));
        for entry in before {
            assert!(is_cgroup(entry) && !take(entry, &mut cgroups, &mut batch));
        }
        assert!(!is_cgroup(&exec) && take(&exec, &mut cgroups, &mut batch));
        let frame = batch.datagrams().next().unwrap();
        let subject = DetailsSubject::Exec { tgid: pmon_core::Tgid(1), time: pmon_core::MonoNs(1) };
        let Some(More::Details(details)) = More::read(frame.metadata, Some(subject), Units::new()) else {
            panic!("no details");
        };
        (details.miss, details.cgroup)
    }

    #[test]
    fn the_path_of_a_cgroup_goes_with_each_exec_in_it_and_is_missed_if_it_has_not_come() {
        let path = |text: &str| (None, Some(text.as_bytes().to_vec()));
        assert_eq!(exec_in(7, &[cgroup_entry(7, b"b c\0a\0", WHOLE)]), path("0::/a/b c"));
        assert_eq!(exec_in(7, &[cgroup_entry(7, b"", WHOLE)]), path("0::/"));
        assert_eq!(exec_in(7, &[cgroup_entry(8, b"a\0", WHOLE)]), (Some(MissReason::Busy), None));
        assert_eq!(exec_in(7, &[]), (Some(MissReason::Busy), None));
        assert_eq!(exec_in(7, &[cgroup_entry(7, &[b'x'; 4200], 0)]), (Some(MissReason::TooLong), None));
    }

    #[test]
    fn no_entry_and_no_annex_makes_it_panic() {
        let units = Units::new();
        let subject = DetailsSubject::Exec { tgid: pmon_core::Tgid(1), time: pmon_core::MonoNs(1) };
        for len in 0..ARGS + 100 {
            for byte in [0, 1, 0x7f, 0xff] {
                let bytes = vec![byte; len];
                let mut batch = Batch::with_metadata(1, 2 * ARGS, 0);
                take(&bytes, &mut Cgroups::default(), &mut batch);
                for frame in batch.datagrams() {
                    More::read(frame.metadata, Some(subject), units);
                }
                More::read(&bytes, Some(subject), units);
                More::read(&bytes, None, units);
            }
        }
    }
}
