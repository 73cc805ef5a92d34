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
    let (mut cgroups, mut batch) = (Cgroups::default(), Batch::with_metadata(4, 1 << 16, MAX_METADATA_BYTES));
    for entry in before {
        assert!(is_cgroup(entry) && !push(entry, &mut cgroups, &mut batch));
    }
    assert!(!is_cgroup(&exec) && push(&exec, &mut cgroups, &mut batch));
    let datagram = batch.datagrams().next().unwrap();
    let subject = DetailsSubject::Exec { tgid: pmon_core::Tgid(1), time: pmon_core::MonoNs(1) };
    let Some(EventMetadata::Details(details)) =
        EventMetadata::read(datagram.metadata, Some(subject), Units::new())
    else {
        panic!("no details");
    };
    (details.miss, details.cgroup)
}

#[test]
fn each_exec_has_the_path_of_its_cgroup_or_misses_a_path_that_was_not_received() {
    let path = |text: &str| (None, Some(text.as_bytes().to_vec()));
    assert_eq!(exec_in(7, &[cgroup_entry(7, b"b c\0a\0", WHOLE)]), path("0::/a/b c"));
    assert_eq!(exec_in(7, &[cgroup_entry(7, b"", WHOLE)]), path("0::/"));
    assert_eq!(exec_in(7, &[cgroup_entry(8, b"a\0", WHOLE)]), (Some(MissReason::Busy), None));
    assert_eq!(exec_in(7, &[]), (Some(MissReason::Busy), None));
    assert_eq!(exec_in(7, &[cgroup_entry(7, &[b'x'; 4200], 0)]), (Some(MissReason::TooLong), None));
}

/// Returns the length of the metadata of an exit with this origin of a signal, and the signal.
fn signal_of(kind: u32, oom: u32) -> (usize, FatalSignal) {
    let mut exit = vec![0; EXIT];
    let mut put = |at: usize, bytes: &[u8]| exit[at..at + bytes.len()].copy_from_slice(bytes);
    put(176, &kind.to_ne_bytes());
    put(180, &(-6_i32).to_ne_bytes());
    put(184, &12_345_678_901_u64.to_ne_bytes());
    put(192, &812_u32.to_ne_bytes());
    put(196, &7_u32.to_ne_bytes());
    put(200, b"oomd");
    put(216, &oom.to_ne_bytes());
    let mut batch = Batch::with_metadata(4, 1 << 16, MAX_METADATA_BYTES);
    assert!(push(&exit, &mut Cgroups::default(), &mut batch));
    let metadata = batch.datagrams().next().unwrap().metadata;
    match EventMetadata::read(metadata, None, Units { ticks_per_second: 100, kib_per_page: 4 }) {
        Some(EventMetadata::Usage(usage)) => (metadata.len(), usage.fatal_signal),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_the_exit_of_a_killed_process_has_the_origin_of_a_signal() {
    let comm = Comm(*b"oomd\0\0\0\0\0\0\0\0\0\0\0\0");
    let sender = SignalSender { pid: 812, start_ticks: 1234, uid: 7, comm };
    let process = SignalOrigin::Process { code: -6, sender };
    let of = |oom_victim, origin| FatalSignal { oom_victim, origin };
    assert_eq!(signal_of(0, 0), (100, FatalSignal::default()));
    assert_eq!(signal_of(FROM_PROCESS, 1), (148, of(Some(false), process)));
    assert_eq!(signal_of(FROM_KERNEL, 2), (148, of(Some(true), SignalOrigin::Kernel { code: -6 })));
    assert_eq!(signal_of(0, 1), (148, of(Some(false), SignalOrigin::Unknown)));
    assert_eq!(signal_of(FROM_PROCESS, 0), (148, of(None, process)));
    assert_eq!(signal_of(9, 9), (148, FatalSignal::default()));
}

#[test]
fn malformed_entries_and_metadata_cause_no_panic() {
    let units = Units::new();
    let subject = DetailsSubject::Exec { tgid: pmon_core::Tgid(1), time: pmon_core::MonoNs(1) };
    for len in 0..ARGS + 100 {
        for byte in [0, 1, 0x7f, 0xff] {
            let bytes = vec![byte; len];
            let mut batch = Batch::with_metadata(1, 2 * ARGS, 0);
            push(&bytes, &mut Cgroups::default(), &mut batch);
            for datagram in batch.datagrams() {
                EventMetadata::read(datagram.metadata, Some(subject), units);
            }
            EventMetadata::read(&bytes, Some(subject), units);
            EventMetadata::read(&bytes, None, units);
        }
    }
}
