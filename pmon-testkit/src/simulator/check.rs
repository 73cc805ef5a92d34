//! What is asked of a recording: that all is accounted for, and that its replay is the same.

use std::collections::{BTreeMap, BTreeSet};

use pmon::{RerecordError, Rerecorder};
use pmon_analysis::{Verdict, Verifier};
use pmon_core::Cpu;
use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::batch::Batch;
use pmon_core::capture::{Blind, Item, Loss, Reader, Record, RecordedDatagram, SelfGenerated};
use pmon_core::source::Source;
use pmon_core::wire::{ByteOrder, Event, EventBody};
use pmon_fake::{Errno, Kernel, Socket};
use pmon_record::SinkError;
use pmon_replay::Replay;

use super::Scenario;
use super::recorder::{Recorded, Tape};

const ORDER: ByteOrder = ByteOrder::NATIVE;
/// Maximum age in ns of a loss, relative to a heartbeat, that may include the heartbeat.
const DELAY: u64 = 100_000_000;

/// How much was recorded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub events: u64,
    pub lost: u64,
}

/// Why a scenario fails.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    #[error("a socket of the fake kernel: {0}")]
    Socket(#[from] Errno),
    #[error("the recording ends: {0}")]
    Sink(#[from] SinkError),
    #[error("the replay is not recorded: {0}")]
    Rerecorder(#[from] RerecordError),
    #[error("{0}")]
    Says(String),
}

/// Fails unless both are the same.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Result<(), Wrong> {
    if found == wanted { Ok(()) } else { says(format!("{what}: {found:?}, and should be {wanted:?}")) }
}

fn says<T>(what: String) -> Result<T, Wrong> {
    Err(Wrong::Says(what))
}

/// All that is asked.
pub fn all(
    scenario: &Scenario,
    kernel: &mut Kernel,
    witness: &mut Socket,
    recorded: &Recorded,
) -> Result<Counts, Wrong> {
    let content = Content::of(&recorded.capture)?;
    let counts = accounted_for(kernel, &recorded.first, &content)?;
    let sent = Sent::of(witness)?;
    as_sent(&sent, &content, recorded)?;
    totals(&sent, &content, recorded)?;
    verified(&content, recorded)?;
    witnessed(&sent, &content, recorded)?;
    replayed(scenario, &content, recorded)?;
    Ok(counts)
}

/// What is in a capture.
#[derive(Debug, Default, PartialEq)]
struct Content {
    frames: Vec<Vec<u8>>,
    /// Losses, without their causes: what has several is one.
    losses: Vec<Loss>,
    blind: Vec<Blind>,
    lost: LossByCause,
    verdict: Option<Verdict>,
    problems: Vec<String>,
    /// Minimum number of forks without an event, according to the fork counter.
    missing_forks: u64,
    /// Blind spans that only the fork counter shows.
    unreported_blinds: u64,
}

impl Content {
    fn of(capture: &[u8]) -> Result<Self, Wrong> {
        let mut content = Self::default();
        let mut reader = Reader::open(capture).or_else(|error| says(format!("not a capture: {error}")))?;
        let recorder = reader.header().and_then(|header| header.meta.recorder());
        let mut verifier = Verifier::new(ORDER, recorder);
        while let Some(item) = reader.next_item().or_else(|error| says(error.to_string()))? {
            let Item::Block(block) = item else { return says("a capture with damage".into()) };
            for record in block.records() {
                verifier.count(&record);
                match record {
                    Record::Event(frame, _) => {
                        frame.with_bytes(ORDER, |bytes| content.frames.push(bytes.to_vec()));
                    }
                    Record::Loss(loss) => content.lose(loss),
                    Record::Blind(blind) => content.blind.push(blind),
                    _ => {}
                }
            }
        }
        let report = verifier.finish(reader.ended_cleanly());
        content.verdict = Some(report.verdict());
        (content.missing_forks, content.unreported_blinds) = (report.forks.missing, report.unreported_blinds);
        content.problems = report.problems.iter().map(ToString::to_string).collect();
        Ok(content)
    }

    fn lose(&mut self, loss: Loss) {
        self.lost.add(loss.cause, loss.count());
        let loss = Loss { cause: LossCause::Unknown, ..loss };
        match self.losses.last_mut() {
            Some(last) if (last.cpu, last.last.0.wrapping_add(1)) == (loss.cpu, loss.first.0) => {
                last.last = loss.last;
            }
            _ => self.losses.push(loss),
        }
    }

    fn events(&self) -> impl Iterator<Item = (&[u8], Event)> {
        self.frames.iter().filter_map(|frame| {
            RecordedDatagram::new(frame, ORDER).event(ORDER).map(|event| (frame.as_slice(), event))
        })
    }
}

/// Each number of each CPU, from the first that the recorder could hear to the last, is in the capture once, or in a loss.
fn accounted_for(kernel: &Kernel, first: &[u32], content: &Content) -> Result<Counts, Wrong> {
    let mut numbers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (_, event) in content.events() {
        numbers.entry(event.cpu.0).or_default().push(event.seq.0);
    }
    let events = numbers.values().map(|numbers| numbers.len() as u64).sum();
    for loss in &content.losses {
        let lost = (0..loss.count()).map(|n| loss.first.0.wrapping_add(n as u32));
        numbers.entry(loss.cpu.0).or_default().extend(lost);
    }
    for (cpu, &first) in (0..).zip(first) {
        let emitted = kernel.next_seq(Cpu(cpu)).0.wrapping_sub(first);
        let wanted: BTreeSet<_> = (0..emitted).map(|n| first.wrapping_add(n)).collect();
        let found = numbers.remove(&cpu).unwrap_or_default();
        same(&format!("events of cpu {cpu}, recorded or lost"), found.len() as u64, emitted.into())?;
        if found.into_iter().collect::<BTreeSet<_>>() != wanted {
            return says(format!("the numbers of cpu {cpu} are not those that it gave"));
        }
    }
    same("events of other CPUs", numbers.len(), 0)?;
    Ok(Counts { events, lost: content.lost.total() })
}

/// What was sent to everybody.
#[derive(Debug, Default)]
struct Sent {
    events: BTreeMap<(u32, u32), Vec<u8>>,
    forged: u64,
    malformed: u64,
    /// Dropped by a socket that has room for all.
    forced: u64,
}

impl Sent {
    fn of(witness: &mut Socket) -> Result<Self, Wrong> {
        let mut sent = Self { forced: witness.memory().drops.into(), ..Self::default() };
        let mut batch = Batch::with_capacity(4096);
        while witness.poll().readable || witness.poll().error {
            batch.clear();
            witness.receive(&mut batch)?;
            for frame in batch.datagrams() {
                if frame.arrival.sender != 0 {
                    sent.forged += 1;
                    continue;
                }
                let datagram = RecordedDatagram::new(frame.bytes, ORDER);
                sent.malformed += u64::from(datagram.is_malformed(ORDER));
                if let Some(event) = datagram.event(ORDER) {
                    sent.events.insert((event.cpu.0, event.seq.0), frame.bytes.to_vec());
                }
            }
        }
        Ok(sent)
    }
}

/// Nothing is recorded that was not sent, and nothing otherwise than it was.
fn as_sent(sent: &Sent, content: &Content, recorded: &Recorded) -> Result<(), Wrong> {
    for (frame, event) in content.events() {
        let wanted = sent.events.get(&(event.cpu.0, event.seq.0)).map(Vec::as_slice);
        same(&format!("event {} of cpu {}", event.seq, event.cpu), Some(frame), wanted)?;
    }
    let own = content.events().filter(|(_, event)| {
        SelfGenerated::of(event, recorded.header.meta.recorder().unwrap_or_default()).is_some()
    });
    let fences = own.count() as u64;
    if fences == 0 && content.lost.total() == 0 {
        return says("no fence was heard, and nothing was lost".into());
    }
    Ok(())
}

/// The end's totals are those of the records, and of what was sent.
fn totals(sent: &Sent, content: &Content, recorded: &Recorded) -> Result<(), Wrong> {
    let end = &recorded.end;
    same("events at the end", end.events, content.frames.len() as u64)?;
    same("losses at the end", end.lost, content.lost)?;
    same("blind ns at the end", end.blind_ns, content.blind.iter().map(Blind::length_ns).sum())?;
    same("drops at the end", end.drops, Some(recorded.drops))?;
    same("losses of unknown cause", end.lost.of(LossCause::Unknown), 0)?;
    // A datagram that is dropped need not have had a number.
    if end.lost.of(LossCause::Socket) > recorded.drops {
        return says(format!("more is lost by the socket than the {} that it dropped", recorded.drops));
    }
    // Where the recorder's socket dropped nothing but what nobody had, it has heard all that was sent.
    if recorded.drops == sent.forced {
        same("forged messages", end.rejected, sent.forged)?;
        same("malformed messages", end.malformed, sent.malformed)?;
    }
    Ok(())
}

/// The verdict is neither better nor worse than it should be.
fn verified(content: &Content, recorded: &Recorded) -> Result<(), Wrong> {
    let wanted = match (content.blind.is_empty() && content.missing_forks == 0, content.lost.total()) {
        (true, 0) => Verdict::Complete,
        (true, _) => Verdict::Lossy,
        (false, _) => Verdict::Blind,
    };
    let is_lossy = content.verdict == Some(Verdict::Lossy) && recorded.drops > 0;
    if content.verdict == Some(wanted) || wanted == Verdict::Complete && is_lossy {
        return Ok(());
    }
    says(format!("verdict {:?}, and should be {wanted:?}: {:?}", content.verdict, content.problems))
}

/// Checks that the capture reports every heartbeat and fork that the kernel did not emit, and no
/// others, except those that a loss may include.
fn witnessed(sent: &Sent, content: &Content, recorded: &Recorded) -> Result<(), Wrong> {
    for beat in &recorded.silent {
        let is_told = content.blind.iter().any(|blind| blind.from <= beat.began && beat.ended <= blind.until);
        let may_hold = |loss: &Loss| {
            loss.cpu == beat.cpu && loss.after <= beat.ended && loss.before.0 + DELAY > beat.began.0
        };
        if !is_told && !content.losses.iter().any(may_hold) {
            return says(format!("{beat:?} was not emitted, and nothing says so"));
        }
    }
    let (first, last) = recorded.readings;
    let is_fork = |frame: &Vec<u8>| match RecordedDatagram::new(frame, ORDER).event(ORDER) {
        Some(event) => {
            matches!(event.body, EventBody::Fork { .. }) && first.until < event.time && event.time < last.from
        }
        None => false,
    };
    let emitted = sent.events.values().filter(|frame| is_fork(frame)).count() as u64;
    let not_emitted = (last.forks - first.forks).saturating_sub(emitted);
    same("blind times that only the count of forks tells", content.unreported_blinds, 0)?;
    let is_exact = content.lost.total() == 0 && sent.malformed == 0;
    if content.missing_forks > not_emitted || is_exact && content.missing_forks != not_emitted {
        return says(format!("{} forks missing, and should be {not_emitted}", content.missing_forks));
    }
    Ok(())
}

/// Replayed and recorded again, it is the same.
fn replayed(scenario: &Scenario, content: &Content, recorded: &Recorded) -> Result<(), Wrong> {
    let reader = Reader::open(recorded.capture.as_slice()).or_else(|error| says(error.to_string()))?;
    let mut replay = Replay::new(reader).pass_records();
    let tape = Tape::with_header(recorded.header.clone(), scenario.block())?;
    let mut rerecorder = Rerecorder::new(tape, recorded.header.meta.recorder().unwrap_or_default());
    while rerecorder.take(&mut replay, None)? {}
    let again = rerecorder.finish(replay.now())?;
    let again = Content::of(&again.into_capture())?;
    same("datagrams of the replay", again.frames.len(), content.frames.len())?;
    if let Some(at) = (0..again.frames.len()).find(|&at| again.frames[at] != content.frames[at]) {
        same(&format!("datagram {at} of the replay"), &again.frames[at], &content.frames[at])?;
    }
    same("losses of the replay", &again.losses, &content.losses)?;
    same("causes in the replay", again.lost, content.lost)?;
    same("blindness of the replay", &again.blind, &content.blind)
}
