//! Checks a simulated recording: everything is accounted for, and its replay is the same.

use std::collections::BTreeMap;

use pmon::Rerecorder;
use pmon_analysis::Verdict;
use pmon_core::accounting::LossCause;
use pmon_core::batch::Batch;
use pmon_core::capture::{End, Loss, Reader, Record, RecordedDatagram, SelfGenerated};
use pmon_core::source::Source;
use pmon_core::wire::{ByteOrder, Event, EventBody};
use pmon_core::{Cpu, Seq};
use pmon_fake::{Kernel, Socket};
use pmon_replay::Replay;

use super::recorder::SimulatedRecording;
use super::sink::{MemorySink, SimulatedSegment};
use super::{Simulation, SimulationError, SimulationTotals};
use crate::capture::{CaptureContents, ensure_equal};

const ORDER: ByteOrder = ByteOrder::NATIVE;
/// Maximum age in ns of a loss, relative to a heartbeat, that may include the heartbeat.
const DELAY: u64 = 100_000_000;

/// Performs all checks.
pub(super) fn check(
    simulation: &Simulation,
    kernel: &mut Kernel,
    witness: &mut Socket,
    recording: &SimulatedRecording,
) -> Result<SimulationTotals, SimulationError> {
    let mut segments = Vec::new();
    for (at, segment) in recording.segments.iter().enumerate() {
        let found = SimulatedContents::read(&segment.capture)?;
        let checked = check_segment(segment, &found, recording.drops);
        checked.map_err(|error| format!("segment {at}: {error}"))?;
        segments.push(found);
    }
    check_chain(&segments, recording)?;
    if let [found] = &segments[..]
        && recording.segments[0].end.is_none()
    {
        check_replay(simulation, found, recording)?;
    }
    let found = SimulatedContents::joined(segments);
    let totals = check_numbers(kernel, &recording.first, &found)?;
    let emitted = EmittedDatagrams::receive(witness)?;
    check_events(&emitted, &found, recording)?;
    check_totals(&emitted, &found, recording)?;
    check_missing(&emitted, &found, recording)?;
    Ok(totals)
}

/// The contents of a capture, with the bytes of its datagrams.
#[derive(Debug)]
struct SimulatedContents {
    capture: CaptureContents,
    datagrams: Vec<Vec<u8>>,
    /// Losses without their causes: adjacent losses of different causes are merged.
    losses: Vec<Loss>,
}

impl SimulatedContents {
    fn read(capture: &[u8]) -> Result<Self, SimulationError> {
        let (mut datagrams, mut losses) = (Vec::new(), Vec::new());
        let capture = CaptureContents::try_from_bytes(capture, |record| match record {
            Record::Event(datagram, _) => {
                datagram.with_bytes(ORDER, |bytes| datagrams.push(bytes.to_vec()));
            }
            Record::Loss(loss) => merge(&mut losses, *loss),
            _ => {}
        })?;
        Ok(Self { capture, datagrams, losses })
    }

    /// Returns the contents of all segments as if they were one capture. Only its totals and the
    /// result of the verification are meaningless.
    fn joined(segments: Vec<Self>) -> Self {
        let mut all = Self { capture: CaptureContents::default(), datagrams: Vec::new(), losses: Vec::new() };
        let mut end = End::default();
        for Self { capture, datagrams, losses } in segments {
            all.datagrams.extend(datagrams);
            losses.into_iter().for_each(|loss| merge(&mut all.losses, loss));
            all.capture.header = all.capture.header.or(capture.header);
            all.capture.accounted.extend(capture.accounted);
            all.capture.blind.extend(capture.blind);
            all.capture.report.forks.missing += capture.report.forks.missing;
            let Some(segment) = capture.end else { continue };
            end.rejected += segment.rejected;
            end.malformed += segment.malformed;
            end.drops = Some(end.drops.unwrap_or(0) + segment.drops.unwrap_or(0));
        }
        end.lost = all.capture.lost();
        all.capture.end = Some(end);
        all
    }

    /// Returns the events, with their bytes.
    fn events(&self) -> impl Iterator<Item = (&[u8], Event)> {
        self.datagrams.iter().filter_map(|datagram| {
            RecordedDatagram::new(datagram, ORDER).event(ORDER).map(|event| (datagram.as_slice(), event))
        })
    }
}

/// Appends a loss, or extends the last one.
fn merge(losses: &mut Vec<Loss>, loss: Loss) {
    let loss = Loss { cause: LossCause::Unknown, ..loss };
    match losses.last_mut() {
        Some(last) if (last.cpu, last.last.0.wrapping_add(1)) == (loss.cpu, loss.first.0) => {
            last.last = loss.last;
        }
        _ => losses.push(loss),
    }
}

/// Checks that each number of each CPU, from the first after the subscription to the last, is in
/// the capture once, or in a loss.
fn check_numbers(
    kernel: &Kernel,
    first: &[u32],
    found: &SimulatedContents,
) -> Result<SimulationTotals, SimulationError> {
    let mut spans = found.capture.number_spans()?;
    for (cpu, &first) in (0..).map(Cpu).zip(first) {
        let emitted = kernel.next_seq(cpu).0.wrapping_sub(first);
        let span = spans.remove(&cpu).map(|span| (span.first.0, span.len));
        let expected = (emitted > 0).then_some((first, emitted.into()));
        ensure_equal(&format!("numbers of cpu {cpu}, recorded or lost"), span, expected)?;
    }
    ensure_equal("CPUs that do not exist", spans.len(), 0)?;
    Ok(SimulationTotals { events: found.capture.events().count() as u64, lost: found.capture.lost().total() })
}

/// Everything that was sent to the group.
#[derive(Debug, Default)]
struct EmittedDatagrams {
    events: BTreeMap<(u32, u32), Vec<u8>>,
    forged: u64,
    malformed: u64,
    /// Number of datagrams that a fault dropped on every socket, even on one with a large buffer.
    dropped_everywhere: u64,
}

impl EmittedDatagrams {
    fn receive(witness: &mut Socket) -> Result<Self, SimulationError> {
        let mut emitted = Self { dropped_everywhere: witness.memory().drops.into(), ..Self::default() };
        let mut batch = Batch::with_capacity(4096);
        while witness.poll().readable || witness.poll().error {
            batch.clear();
            witness.receive(&mut batch)?;
            for received in batch.datagrams() {
                if received.arrival.sender != 0 {
                    emitted.forged += 1;
                    continue;
                }
                let datagram = RecordedDatagram::new(received.bytes, ORDER);
                emitted.malformed += u64::from(datagram.is_malformed(ORDER));
                if let Some(event) = datagram.event(ORDER) {
                    emitted.events.insert((event.cpu.0, event.seq.0), received.bytes.to_vec());
                }
            }
        }
        Ok(emitted)
    }
}

/// Checks that each recorded event was emitted, with the same bytes.
fn check_events(
    emitted: &EmittedDatagrams,
    found: &SimulatedContents,
    recording: &SimulatedRecording,
) -> Result<(), SimulationError> {
    for (datagram, event) in found.events() {
        let expected = emitted.events.get(&(event.cpu.0, event.seq.0)).map(Vec::as_slice);
        ensure_equal(&format!("event {} of cpu {}", event.seq, event.cpu), Some(datagram), expected)?;
    }
    let recorder = recording.header.meta.recorder().unwrap_or_default();
    let has_fence = found.events().any(|(_, event)| SelfGenerated::of(&event, recorder).is_some());
    if !has_fence && found.capture.lost().total() == 0 {
        return Err("no fence was recorded, and nothing was lost".to_owned().into());
    }
    Ok(())
}

/// Checks that a segment, or the one capture, is complete in itself.
fn check_segment(
    segment: &SimulatedSegment,
    found: &SimulatedContents,
    drops: u64,
) -> Result<(), SimulationError> {
    let capture = &found.capture;
    if !segment.is_killed {
        capture.check_totals()?;
    }
    ensure_equal("problems", &capture.report.problems[..], &[])?;
    ensure_equal("numbers without a record", capture.report.missing, 0)?;
    ensure_equal("blind spans that only the fork counter shows", capture.report.unreported_blinds, 0)?;
    check_verdict(segment, capture, drops)?;
    let Some(info) = capture.header.as_ref().and_then(|header| header.meta.segment.as_ref()) else {
        return Ok(());
    };
    // Each CPU's numbers lead from its position at the start to the one at the end.
    let mut positions: BTreeMap<_, _> = info.positions.iter().map(|cpu| (cpu.cpu, cpu.next)).collect();
    for (cpu, span) in capture.number_spans()? {
        let first = positions.insert(cpu, Seq(span.first.0.wrapping_add(span.len as u32)));
        ensure_equal(&format!("first number of {cpu}"), span.first, first.unwrap_or(span.first))?;
    }
    let end = segment.end.iter().flat_map(|end| &end.cpus).map(|cpu| (cpu.cpu, cpu.next)).collect();
    Ok(ensure_equal("positions at the end", positions, end)?)
}

/// Checks that each segment begins where the previous one ends, with the same CPUs and times.
fn check_chain(
    segments: &[SimulatedContents],
    recording: &SimulatedRecording,
) -> Result<(), SimulationError> {
    for (at, (next, segment)) in segments.iter().skip(1).zip(&recording.segments).enumerate() {
        let meta = &next.capture.header().meta;
        let (start, end) = (meta.segment.as_ref().map(|info| &info.positions), segment.end.as_ref());
        ensure_equal(&format!("start after segment {at}"), start, end.map(|end| &end.cpus))?;
        let previous = segments[at].capture.header().uuid;
        ensure_equal(&format!("previous after segment {at}"), meta.previous, Some(previous))?;
    }
    Ok(())
}

/// Checks the totals in the end records against what was emitted.
fn check_totals(
    emitted: &EmittedDatagrams,
    found: &SimulatedContents,
    recording: &SimulatedRecording,
) -> Result<(), SimulationError> {
    let end = found.capture.totals();
    ensure_equal("losses of unknown cause", end.lost.of(LossCause::Unknown), 0)?;
    // Some dropped datagrams have no number, so fewer events may be lost than datagrams dropped.
    if end.lost.of(LossCause::Socket) > recording.drops {
        return Err(format!("more is lost by the socket than the {} that it dropped", recording.drops).into());
    }
    if recording.is_killed {
        return Ok(());
    }
    // No socket received the events for which the kernel had no memory.
    let numbers = found.capture.events().count() as u64 + end.lost.total();
    let without_memory = numbers.saturating_sub(emitted.events.len() as u64);
    let by_restart = end.lost.of(LossCause::Restart);
    if by_restart > without_memory {
        return Err(
            format!("{by_restart} lost by a clean restart, and {without_memory} by the kernel").into()
        );
    }
    if recording.restarts == 0 {
        ensure_equal("drops at the end", end.drops, Some(recording.drops))?;
    }
    // If the recorder's socket dropped no more than every other socket, it received everything
    // else.
    if recording.drops == emitted.dropped_everywhere {
        ensure_equal("forged messages", end.rejected, emitted.forged)?;
        ensure_equal("malformed messages", end.malformed, emitted.malformed)?;
    }
    Ok(())
}

/// Checks the verdict of `pmon verify`.
fn check_verdict(
    segment: &SimulatedSegment,
    capture: &CaptureContents,
    drops: u64,
) -> Result<(), SimulationError> {
    let report = &capture.report;
    let is_blind = !capture.blind.is_empty() || report.forks.missing > 0;
    let expected = match (is_blind, capture.lost().total()) {
        _ if segment.is_killed => Verdict::Unsealed,
        (false, 0) => Verdict::Complete,
        (false, _) => Verdict::Lossy,
        (true, _) => Verdict::Blind,
    };
    // Dropped datagrams without a number, or a CPU whose fence was not received.
    let is_lossy = report.verdict() == Verdict::Lossy && (drops > 0 || report.silent_cpus().next().is_some());
    if report.verdict() == expected || expected == Verdict::Complete && is_lossy {
        return Ok(());
    }
    Err(format!("verdict {:?}, expected {expected:?}: {:?}", report.verdict(), report.problems).into())
}

/// Checks that the capture reports every heartbeat and fork that the kernel did not emit, and no
/// others, except those that a loss may include.
fn check_missing(
    emitted: &EmittedDatagrams,
    found: &SimulatedContents,
    recording: &SimulatedRecording,
) -> Result<(), SimulationError> {
    for beat in &recording.silent {
        let is_blind =
            found.capture.blind.iter().any(|blind| blind.from <= beat.began && beat.ended <= blind.until);
        let may_include = |loss: &Loss| {
            loss.cpu == beat.cpu && loss.after <= beat.ended && loss.before.0 + DELAY > beat.began.0
        };
        if !is_blind && !found.losses.iter().any(may_include) {
            return Err(format!("{beat:?} was not emitted, and the capture does not report it").into());
        }
    }
    let (first, last) = recording.readings;
    let is_fork = |datagram: &Vec<u8>| match RecordedDatagram::new(datagram, ORDER).event(ORDER) {
        Some(event) => {
            matches!(event.body, EventBody::Fork { .. }) && first.until < event.time && event.time < last.from
        }
        None => false,
    };
    let forks = emitted.events.values().filter(|datagram| is_fork(datagram)).count() as u64;
    let not_emitted = (last.forks - first.forks).saturating_sub(forks);
    let report = &found.capture.report;
    let is_undivided = recording.segments.len() == 1;
    let is_exact = is_undivided && found.capture.lost().total() == 0 && emitted.malformed == 0;
    let missing = report.forks.missing;
    if missing > not_emitted || is_exact && missing != not_emitted {
        return Err(format!("{missing} forks missing, expected {not_emitted}").into());
    }
    Ok(())
}

/// Checks that a recording of the replayed capture is the same.
fn check_replay(
    simulation: &Simulation,
    found: &SimulatedContents,
    recording: &SimulatedRecording,
) -> Result<(), SimulationError> {
    let reader = Reader::open(recording.segments[0].capture.as_slice()).map_err(|error| error.to_string())?;
    let mut replay = Replay::new(reader).pass_records();
    let sink = MemorySink::new(recording.header.clone(), simulation.block_records)?;
    let mut rerecorder = Rerecorder::new(sink, recording.header.meta.recorder().unwrap_or_default());
    while rerecorder.take(&mut replay, None)? {}
    let sink = rerecorder.finish(replay.now())?;
    let again = SimulatedContents::read(&sink.into_capture())?;
    ensure_equal("datagrams of the replay", again.datagrams.len(), found.datagrams.len())?;
    for (at, (again, first)) in again.datagrams.iter().zip(&found.datagrams).enumerate() {
        ensure_equal(&format!("datagram {at} of the replay"), again, first)?;
    }
    ensure_equal("losses of the replay", &again.losses, &found.losses)?;
    ensure_equal("causes in the replay", again.capture.lost(), found.capture.lost())?;
    Ok(ensure_equal("blind spans of the replay", &again.capture.blind, &found.capture.blind)?)
}
