use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;

use pmon_core::capture::{Details, DetailsSubject, Encoder, RecordedDatagram, SelfGenerated};
use pmon_core::wire::{Event, EventBody};
use pmon_core::{MonoNs, Task};

use super::*;

fn small(events: u64, profile: WorkloadProfile, seed: u64) -> SynthOptions {
    SynthOptions { events, profile, seed, cpus: 3, processes: 60, ..SynthOptions::default() }
}

fn records(options: SynthOptions) -> Vec<Record<'static>> {
    let mut records = Vec::new();
    let synth = Synth::new(options).expect("the options are valid");
    let Ok(()) = synth.generate(|record| {
        records.push(record.clone());
        Ok::<_, Infallible>(())
    });
    records
}

/// Returns the blocks of the capture, without the header, which contains the version of pmon.
fn blocks(options: SynthOptions) -> Vec<u8> {
    let synth = Synth::new(options).expect("the options are valid");
    let mut encoder = Encoder::new(&synth.header()).expect("the header fits");
    let mut bytes = Vec::new();
    let encoded = synth.generate(|record| {
        if encoder.is_full() {
            bytes.extend_from_slice(encoder.seal());
        }
        encoder.push(record)
    });
    encoded.expect("the records fit");
    bytes.extend_from_slice(encoder.seal());
    bytes.extend_from_slice(encoder.finish());
    bytes
}

/// The processes according to the events of a capture without losses, computed independently.
struct ProcessModel {
    /// Parent and threads of each process, including the first thread.
    alive: BTreeMap<u32, (u32, BTreeSet<u32>)>,
    numbers: HashMap<u32, u32>,
    now: MonoNs,
    recorder: u32,
    /// Exec whose details come next.
    awaited: Option<(u32, MonoNs)>,
    seen: BTreeMap<&'static str, u64>,
}

impl ProcessModel {
    fn is_running(&self, task: Task) -> bool {
        self.alive.get(&task.tgid.0).is_some_and(|(_, threads)| threads.contains(&task.tid.0))
    }

    fn is_free(&self, id: u32) -> bool {
        !self.alive.values().any(|(_, threads)| threads.contains(&id))
    }

    fn event(&mut self, event: &Event) {
        assert!(self.awaited.is_none(), "details directly follow their exec");
        assert!(event.time > self.now, "{event:?} is not after {:?}", self.now);
        self.now = event.time;
        let number = self.numbers.insert(event.cpu.0, event.seq.0);
        assert!(
            number.is_none_or(|before| before.wrapping_add(1) == event.seq.0),
            "{event:?} after {number:?}"
        );
        *self.seen.entry(event.kind().name()).or_default() += 1;
        match event.body {
            EventBody::Fork { parent, child } => {
                assert!(self.is_free(child.tid.0), "{event:?}: the ID is in use");
                assert!(self.is_running(parent), "{event:?}: the parent has exited");
                if child.is_leader() {
                    self.alive.insert(child.tgid.0, (parent.tgid.0, BTreeSet::from([child.tid.0])));
                } else {
                    let (of, threads) = self.alive.get_mut(&child.tgid.0).expect("the process is running");
                    assert_eq!(*of, parent.tgid.0, "{event:?}");
                    threads.insert(child.tid.0);
                }
            }
            EventBody::Exec { task } => {
                let (_, threads) = self.alive.get_mut(&task.tgid.0).expect("the process is running");
                assert_eq!(threads.len(), 1, "{event:?}: other threads are still running");
                *threads = BTreeSet::from([task.tgid.0]);
                assert!(task.is_leader());
                self.awaited = Some((task.tgid.0, event.time));
            }
            EventBody::Exit { task, parent, .. } => {
                assert!(self.is_running(task), "{event:?} of an exited task");
                let (of, threads) = self.alive.get_mut(&task.tgid.0).expect("the process is running");
                threads.remove(&task.tid.0);
                // The exit is of a first thread, also if another thread executes the next program.
                let expected = if task.is_leader() { *of } else { 0 };
                assert_eq!(parent.map(|parent| parent.tgid.0), Some(expected), "{event:?}");
                if threads.is_empty() {
                    self.alive.remove(&task.tgid.0);
                    for (of, _) in self.alive.values_mut().filter(|(of, _)| *of == task.tgid.0) {
                        *of = 1;
                    }
                }
            }
            EventBody::Coredump { task, parent } => {
                assert!(
                    self.is_running(task) && parent.is_some_and(|parent| self.is_running(parent)),
                    "{event:?}"
                );
            }
            EventBody::Ptrace { task, tracer } => {
                assert!(
                    self.is_running(task) && (tracer == Task::default() || self.is_running(tracer)),
                    "{event:?}"
                );
            }
            EventBody::Uid { task, .. }
            | EventBody::Gid { task, .. }
            | EventBody::Sid { task }
            | EventBody::Comm { task, .. } => {
                let is_own = task.tgid.0 == self.recorder;
                assert!(self.is_running(task) || is_own, "{event:?} of an exited task");
                if is_own {
                    assert_eq!(SelfGenerated::of(event, task.tgid), Some(SelfGenerated::Fence), "{event:?}");
                }
            }
            _ => panic!("{event:?}"),
        }
    }

    fn details(&mut self, details: &Details) {
        match details.subject {
            DetailsSubject::Snapshot { tgid } => {
                let ppid = details.ppid.expect("a parent");
                let before = self.alive.insert(tgid.0, (ppid, BTreeSet::from([tgid.0])));
                assert!(before.is_none() && self.is_free(0));
                assert!(self.alive.contains_key(&ppid) || ppid == 0, "{details:?}");
            }
            DetailsSubject::Exec { tgid, time } => {
                assert_eq!(self.awaited.take(), Some((tgid.0, time)));
                assert_eq!(details.ppid, self.alive.get(&tgid.0).map(|&(of, _)| of), "{details:?}");
                assert!(details.parent_start_ticks <= details.start_ticks, "{details:?}");
                assert!(details.context.is_some() && details.filename.is_some());
            }
        }
        assert!(details.miss.is_none() && details.argv().next().is_some() && details.exe.is_some());
        assert!(details.start_ticks.is_some_and(|start| start <= self.now.0 / 10_000_000), "{details:?}");
        let file = details.exe.as_deref().and_then(|exe| exe.rsplit(|&byte| byte == b'/').next());
        if matches!(details.subject, DetailsSubject::Exec { .. }) {
            let name = file.map(|name| &name[..name.len().min(15)]);
            assert_eq!(details.comm.as_deref(), name, "{details:?}");
        }
    }
}

#[test]
fn every_event_is_possible() {
    let mut all = BTreeMap::new();
    for (profile, seed) in
        WorkloadProfile::ALL.into_iter().flat_map(|profile| (0..4).map(move |seed| (profile, seed)))
    {
        let options = small(4_000, profile, seed);
        let synth = Synth::new(options).expect("the options are valid");
        let mut model = ProcessModel {
            alive: BTreeMap::new(),
            numbers: HashMap::new(),
            now: MonoNs(0),
            recorder: synth.header().meta.recorder_pid,
            awaited: None,
            seen: BTreeMap::new(),
        };
        let (mut most, mut scans) = (0, 0);
        for record in records(options) {
            match record {
                Record::Event(RecordedDatagram::Event(event), usage) => {
                    assert_eq!(usage.is_some(), matches!(event.body, EventBody::Exit { .. }), "{event:?}");
                    let starts_in_time =
                        |usage: &pmon_core::capture::Usage| usage.start_ticks <= event.time.0 / 10_000_000;
                    assert!(usage.as_deref().is_none_or(starts_in_time), "{event:?} {usage:?}");
                    model.event(&event);
                }
                Record::Details(details) => model.details(&details),
                Record::Snapshot(snapshot) => {
                    scans += 1;
                    assert_eq!(snapshot.processes as usize, model.alive.len());
                }
                Record::Loss(loss) => panic!("{loss:?}"),
                _ => {}
            }
            most = most.max(model.alive.len());
        }
        assert_eq!(scans, 1);
        assert!((20..=60).contains(&most), "{most} processes at a time");
        for (kind, count) in model.seen {
            *all.entry(kind).or_insert(0) += count;
        }
    }
    // Every event kind that processes cause occurs.
    let kinds = ["comm", "coredump", "exec", "exit", "fork", "gid", "ptrace", "sid", "uid"];
    assert_eq!(all.keys().copied().collect::<Vec<_>>(), kinds);
}

#[test]
fn the_requested_numbers_of_events_happen_and_are_lost() {
    for (events, loss_ppm) in
        [(0, 0), (0, 500_000), (1, 0), (2, 500_000), (30_000, 0), (30_000, 12_345), (9_999, 500_000)]
    {
        let options = SynthOptions { loss_ppm, rate: 3_000, ..small(events, WorkloadProfile::Mixed, 5) };
        let (mut recorded, mut own, mut lost, mut end, mut witness, mut scans) = (0, 0, 0, None, (0, 0), 0);
        let mut numbers: HashMap<u32, (u32, u64)> = HashMap::new();
        let synth = Synth::new(options).expect("the options are valid");
        let recorder = synth.header().meta.recorder().expect("a recorder");
        let mut gap: Option<pmon_core::capture::Loss> = None;
        for record in records(options) {
            assert!(end.is_none(), "{record:?} after the end");
            match record {
                Record::Event(RecordedDatagram::Event(event), _) => {
                    *if SelfGenerated::of(&event, recorder).is_some() { &mut own } else { &mut recorded } +=
                        1;
                    let before = numbers.insert(event.cpu.0, (event.seq.0.wrapping_add(1), event.time.0));
                    let Some((next, time)) = before else { continue };
                    match gap.take() {
                        None => assert_eq!(event.seq.0, next),
                        Some(gap) => {
                            assert_eq!((gap.cpu, gap.first.0, gap.last.next()), (event.cpu, next, event.seq));
                            assert_eq!((gap.after.0, gap.before), (time, event.time));
                        }
                    }
                }
                Record::Loss(loss) => {
                    lost += loss.count();
                    assert_eq!(gap.replace(loss), None);
                }
                Record::Witness(counts) => witness = (counts.drops, counts.gaps),
                Record::Snapshot(_) => scans += 1,
                Record::End(totals) => end = Some(totals),
                _ => {}
            }
        }
        let requested = events * u64::from(loss_ppm) / 1_000_000;
        assert_eq!((recorded, lost, own), (events - requested, requested, 6), "{options}");
        assert_eq!(witness, (requested, requested));
        let end = end.expect("an end");
        assert_eq!((end.events, end.lost.total(), end.drops), (recorded + own, requested, Some(requested)));
        // A loss that is detected only at the end causes no scan.
        assert!(scans == 1 || lost > 0);
        assert!(scans > 1 || requested < 100);
    }
}

#[test]
fn rate_and_start_time_are_as_requested() {
    for (events, rate) in [(2_000, 1), (20_000, 1_000), (20_000, 10_000_000)] {
        let options = SynthOptions { rate, start_ns: 5, ..small(events, WorkloadProfile::Server, 1) };
        let (mut first, mut last, mut anchors) = (None, MonoNs(0), Vec::new());
        for record in records(options) {
            match record {
                Record::Clock(anchor) => anchors.push(anchor),
                Record::End(end) => last = end.time,
                Record::Snapshot(snapshot) => first = first.or(Some(snapshot.ended)),
                _ => {}
            }
        }
        let took = last.0 - first.expect("a scan").0;
        let expected = events * 1_000_000_000 / u64::from(rate);
        assert!(
            (expected * 9 / 10..expected * 11 / 10 + 100_000).contains(&took),
            "{took} ns, not {expected}"
        );
        assert_eq!(anchors[0].real_ns, 5);
        let apart = |anchor: &ClockAnchor| anchor.real_ns - anchor.mono.0 as i64;
        assert!(anchors.iter().all(|anchor| apart(anchor) == apart(&anchors[0])));
        assert!(anchors.len() as u64 >= expected / 63_000_000_000, "{} anchors", anchors.len());
    }
}

#[test]
fn sequence_numbers_start_at_random_values_and_sometimes_wrap() {
    let mut wrapped = 0;
    for seed in 0..8 {
        let mut numbers: HashMap<u32, u32> = HashMap::new();
        for record in records(small(2_000, WorkloadProfile::Storm, seed)) {
            if let Record::Event(RecordedDatagram::Event(event), _) = record {
                let before = numbers.insert(event.cpu.0, event.seq.0);
                wrapped += u32::from(before.is_some_and(|before| before > event.seq.0));
            }
        }
    }
    assert!((1..12).contains(&wrapped), "{wrapped} of 24");
}

#[test]
fn equal_options_give_equal_bytes_and_different_options_do_not() {
    let options = SynthOptions { loss_ppm: 20_000, ..small(20_000, WorkloadProfile::Mixed, 7) };
    let bytes = blocks(options);
    assert_eq!(blocks(options), bytes);
    let header = |options| Synth::new(options).expect("the options are valid").header();
    for other in [
        SynthOptions { seed: 8, ..options },
        SynthOptions { rate: 99_999, ..options },
        SynthOptions { loss_ppm: 0, ..options },
        SynthOptions { profile: WorkloadProfile::Server, ..options },
        SynthOptions { processes: 61, ..options },
        SynthOptions { start_ns: 1, ..options },
    ] {
        assert_ne!(blocks(other), bytes, "{other}");
        assert_ne!(header(other).uuid, header(options).uuid);
    }
    assert_eq!(header(options), header(options));
}

#[test]
fn usages_and_events_agree_on_the_exit_that_ends_a_process() {
    use pmon_analysis::{DetailsJoiner, ProcessExit, ProcessTable};
    let exits = |has_usages: bool| {
        let (mut joiner, mut processes) = (DetailsJoiner::new(ByteOrder::Little), ProcessTable::new());
        let mut exits = Vec::new();
        for record in records(small(40_000, WorkloadProfile::Mixed, 3)) {
            joiner.push(match record {
                Record::Event(frame, usage) => Record::Event(frame, usage.filter(|_| has_usages)),
                record => record,
            });
            while let Some(entry) = joiner.pop() {
                processes.apply(&entry);
                exits.extend(processes.last_exit());
            }
        }
        exits
    };
    let (seen, found) = (exits(true), exits(false));
    assert_eq!(seen.len(), found.len());
    // The events do not show the threads of processes older than the capture.
    let known = |(_, found): &(&ProcessExit, &ProcessExit)| **found != ProcessExit::Unknown;
    let pairs: Vec<_> = seen.iter().zip(&found).filter(known).collect();
    assert!(pairs.len() > 1_000 && pairs.iter().all(|(seen, found)| seen == found), "{}", pairs.len());
    assert!(pairs.iter().any(|(seen, _)| **seen == ProcessExit::GoesOn));
}

/// A change to the generator or the encoder changes these checksums, and must be in the changelog.
#[test]
fn the_bytes_of_these_options_never_change() {
    let crc = |profile| crc32c::crc32c(&blocks(small(5_000, profile, 42)));
    assert_eq!(WorkloadProfile::ALL.map(crc), [4010932142, 2118936984, 207653484, 2527484499]);
}

#[test]
fn options_out_of_their_limits_are_rejected() {
    let refused = |options| Synth::new(options).err();
    let good = SynthOptions::default();
    assert_eq!(refused(good), None);
    let bad = [
        (SynthOptions { rate: 0, ..good }, SynthOptionsError::Rate),
        (SynthOptions { rate: 10_000_001, ..good }, SynthOptionsError::Rate),
        (SynthOptions { cpus: 0, ..good }, SynthOptionsError::Cpus),
        (SynthOptions { cpus: 4097, ..good }, SynthOptionsError::Cpus),
        (SynthOptions { loss_ppm: 500_001, ..good }, SynthOptionsError::Loss),
        (SynthOptions { processes: 19, ..good }, SynthOptionsError::Processes),
        (SynthOptions { events: u64::MAX, ..good }, SynthOptionsError::Duration),
        (SynthOptions { start_ns: -1, ..good }, SynthOptionsError::Start),
        (SynthOptions { start_ns: i64::MAX, ..good }, SynthOptionsError::Start),
    ];
    for (options, error) in bad {
        assert_eq!(refused(options), Some(error));
    }
}

#[test]
fn all_events_happen_within_a_low_limit_of_processes() {
    for profile in WorkloadProfile::ALL {
        let options = SynthOptions { processes: 20, cpus: 40, ..small(3_000, profile, 1) };
        let (mut living, mut events) = (BTreeMap::new(), 0);
        for record in records(options) {
            match record {
                Record::Details(details) => drop(living.insert(details.subject.tgid(), 1)),
                Record::Event(RecordedDatagram::Event(event), _) => {
                    events += 1;
                    match event.body {
                        EventBody::Fork { child, .. } => *living.entry(child.tgid).or_default() += 1,
                        EventBody::Exit { task, .. } => {
                            *living.get_mut(&task.tgid).expect("the process is running") -= 1;
                            // Another thread of the process may be about to exec.
                            living.retain(|_, threads| *threads > 0);
                        }
                        _ => {}
                    }
                    // The first events are those of the fence, before the scan.
                    let is_known = events > 40;
                    assert!(!is_known || (4..=20).contains(&living.len()), "{} live", living.len());
                }
                _ => {}
            }
        }
        assert_eq!(events, 3_000 + 2 * 40);
    }
}

#[test]
fn options_are_displayed_as_command_line_arguments() {
    let options = SynthOptions { loss_ppm: 12_500, ..SynthOptions::default() };
    let text =
        "--events 1000000 --rate 100000 --cpus 4 --loss 1.25% --processes 400 --profile mixed --seed 1";
    assert_eq!(options.to_string(), text);
    let header = Synth::new(options).expect("the options are valid").header();
    assert_eq!(header.meta.transport.why, format!("pmon synth {text}"));
    assert!(SynthOptions::default().to_string().contains("--loss 0% "));
}
