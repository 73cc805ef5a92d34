//! Clips: what triggers request during a simulation, and whether each clip agrees with the truth.

use std::io;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use pmon_analysis::Verdict;
use pmon_core::capture::{ClockAnchor, Record, Unobserved};
use pmon_core::{MonoNs, Tgid};
use pmon_store::clip::{Clip, ClipError, ClipRequest, ClipTicket};
use pmon_store::simulated::{SimulatedClips, SimulatedFilesystem};
use pmon_store::{StoreHandle, StoreWriter, TriggerFired, Triggers, parse_triggers};

use super::machine::{HOST, RECORDER};
use super::mistake::Mistake;
use super::segments::{Accounted, SegmentCache, SegmentContents, summaries};
use super::truth::Truth;

/// Suffix of the name of a finished clip.
pub(super) const CLIP: &str = ".clip.pmon";
/// Suffix of the name of a clip that is being written.
const PARTIAL_CLIP: &str = ".clip.pmon.partial";
/// The trigger of each recorder that makes clips.
const TRIGGERS: &str = r#"
[[trigger]]
name = "failed"
kind = "exit"
exit_code = 1
before = "1500ms"
after = "300ms"
limit = "1/4s"
"#;
/// Time by which a mistaken recorder begins its clips too late.
const SHORTENED_BY: Duration = Duration::from_millis(400);

/// A request for a clip, and its result.
#[derive(Debug)]
pub(super) struct AnsweredRequest {
    request: ClipRequest,
    result: Result<Clip, ClipError>,
}

/// The clips of one recorder.
pub(super) struct RecorderClips {
    clips: SimulatedClips,
    fired: Receiver<TriggerFired>,
    waiting: Vec<(ClipRequest, ClipTicket)>,
    mistake: Option<Mistake>,
}

impl RecorderClips {
    /// Observes the records of a store with a trigger.
    pub(super) fn start(
        writer: &mut StoreWriter,
        handle: &StoreHandle,
        mistake: Option<Mistake>,
    ) -> Result<Self, String> {
        let triggers = parse_triggers(TRIGGERS).map_err(|error| error.to_string())?;
        let (observer, _, fired) = Triggers::new(triggers, Some(Tgid(RECORDER)), || ());
        writer.set_observer(Box::new(observer));
        let clips = SimulatedClips::start(handle, HOST);
        Ok(Self { clips, fired, waiting: Vec::new(), mistake })
    }

    /// Requests the clips of the triggers that have fired, and makes those that are over. Returns
    /// the requests that have been answered.
    pub(super) fn step(&mut self, now: ClockAnchor) -> Vec<AnsweredRequest> {
        self.request();
        self.clips.step(now);
        answered(&mut self.waiting)
    }

    /// Makes all requested clips, after the store has been completed.
    pub(super) fn finish(mut self, now: ClockAnchor) -> Vec<AnsweredRequest> {
        self.request();
        self.clips.finish(now);
        answered(&mut self.waiting)
    }

    fn request(&mut self) {
        for TriggerFired { name, at, before, after, .. } in self.fired.try_iter() {
            let request = ClipRequest { name, at, before, after };
            let mut made = request.clone();
            if self.mistake == Some(Mistake::ShortensClip) {
                made.before = made.before.saturating_sub(SHORTENED_BY);
            }
            let ticket = self.clips.request(&made);
            self.waiting.push((request, ticket));
        }
    }
}

fn answered(waiting: &mut Vec<(ClipRequest, ClipTicket)>) -> Vec<AnsweredRequest> {
    let mut answered = Vec::new();
    for (request, ticket) in std::mem::take(waiting) {
        match ticket.wait(Duration::ZERO) {
            Some(result) => answered.push(AnsweredRequest { request, result }),
            None => waiting.push((request, ticket)),
        }
    }
    answered
}

/// Checks the result of a request. `may_fail` states whether the disk has been full or has failed.
/// Returns whether there is a clip.
///
/// # Errors
/// The first contradiction.
pub(super) fn check_answer(
    answered: &AnsweredRequest,
    fs: &SimulatedFilesystem,
    cache: &SegmentCache,
    truth: &Truth,
    may_fail: bool,
) -> Result<bool, String> {
    let AnsweredRequest { request, result } = answered;
    let clip = match result {
        Ok(clip) => clip,
        Err(ClipError::NoRoom { .. }) => return Ok(false),
        Err(_) if may_fail => return Ok(false),
        // A clip is one file, whose size has a limit like that of a segment.
        Err(ClipError::Failed { why, .. }) if fs.conditions().size_limit.is_some() && is_too_large(why) => {
            return Ok(false);
        }
        Err(error) => return Err(format!("{request:?}: {error}")),
    };
    let name = clip.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(contents) = cache.contents(fs, &name)? else { return Err(format!("{name} has no header")) };
    check_made(answered, clip, &name, &contents, truth).map_err(|why| match cache.read(fs, true) {
        Ok(segments) => format!("{why}; found:{}", summaries(&segments)),
        Err(unreadable) => format!("{why}; {unreadable}"),
    })?;
    Ok(true)
}

/// Returns whether an error is that of a write beyond the maximum size of a file.
fn is_too_large(why: &str) -> bool {
    why.contains(&io::Error::from_raw_os_error(libc::EFBIG).to_string())
}

/// Checks the clip of a request.
fn check_made(
    answered: &AnsweredRequest,
    clip: &Clip,
    name: &str,
    contents: &SegmentContents,
    truth: &Truth,
) -> Result<(), String> {
    let request = &answered.request;
    let (from, until) = check_clip(name, contents, truth)?;
    if from > request.from() || until < request.until() {
        return Err(format!("{name} is of {from} to {until}, and {request:?} was requested"));
    }
    if contents.verdict != clip.verdict {
        return Err(format!("{name} was reported to be {:?}, and is {:?}", clip.verdict, contents.verdict));
    }
    Ok(())
}

/// Checks every clip of a store that was recovered after a crash.
///
/// # Errors
/// The first contradiction.
pub(super) fn check_clips(
    fs: &SimulatedFilesystem,
    cache: &SegmentCache,
    truth: &Truth,
) -> Result<(), String> {
    for name in fs.names() {
        if name.ends_with(PARTIAL_CLIP) {
            return Err(format!("{name} was not removed"));
        }
        if name.ends_with(CLIP) {
            let Some(contents) = cache.contents(fs, &name)? else {
                return Err(format!("{name} has no header"));
            };
            check_clip(&name, &contents, truth)?;
        }
    }
    Ok(())
}

/// Checks that a clip is intact, that it has each event of its time, or has recorded its loss or
/// that it is unobserved, and that its verdict says so. Returns its first and its last time.
fn check_clip(name: &str, clip: &SegmentContents, truth: &Truth) -> Result<(MonoNs, MonoNs), String> {
    let Some(end) = clip.end.filter(|_| clip.ended_cleanly && clip.damage.is_empty()) else {
        return Err(format!("{name} is damaged: {:?}", clip.damage));
    };
    if let Some(problem) = clip.problems.first() {
        return Err(format!("{name} contradicts itself: {problem}"));
    }
    let meta = &clip.header.meta;
    let Some(boot) = truth.boots.iter().find(|boot| boot.id == meta.boot_id) else {
        return Err(format!("{name} is of an unknown boot"));
    };
    // Requested time before the first segment is unobserved, and before the start.
    let unobserved: Vec<Unobserved> = clip.records.iter().filter_map(unobserved).collect();
    let from = unobserved.iter().map(|span| span.from).chain([meta.start.mono]).min().unwrap_or_default();
    let until = end.time;
    let mut accounted: Vec<Vec<bool>> = boot.cpus.iter().map(|cpu| vec![false; cpu.events.len()]).collect();
    let mut lost = 0;
    for record in &clip.accounted {
        let (cpu, first, count) = match record {
            Accounted::Event(event) => {
                let cpu = event.cpu.0 as usize;
                let emitted = boot.cpus.get(cpu).and_then(|truth| truth.events.get(truth.index(event.seq)));
                if emitted.is_none_or(|(emitted, _)| emitted != event) {
                    return Err(format!("{name} has {event:?}, which was not emitted"));
                }
                if !(from..=until).contains(&event.time) {
                    return Err(format!("{name}, of {from} to {until}, has {event:?}"));
                }
                (cpu, event.seq, 1)
            }
            Accounted::Loss(loss) => {
                lost += loss.count();
                (loss.cpu.0 as usize, loss.first, loss.count() as usize)
            }
        };
        let Some(truth) = boot.cpus.get(cpu) else { return Err(format!("{name} has cpu {cpu}")) };
        let first = truth.index(first);
        let Some(marks) = accounted[cpu].get_mut(first..first + count) else {
            return Err(format!("{name} has {record:?}, after the last event"));
        };
        if marks.contains(&true) {
            return Err(format!("{name} accounts twice for {record:?}"));
        }
        marks.fill(true);
    }
    let is_unobserved = |time: MonoNs| unobserved.iter().any(|span| (span.from..=span.until).contains(&time));
    let mut absent = 0;
    for (cpu, truth) in boot.cpus.iter().enumerate() {
        for (index, (event, fate)) in truth.events.iter().enumerate() {
            if accounted[cpu][index] || !(from..=until).contains(&event.time) {
                continue;
            }
            if !is_unobserved(event.time) {
                return Err(format!(
                    "{name}, of {from} to {until}, {:?}, lacks event {index} of cpu {cpu}: {event:?}, {fate:?}; \
                     unobserved: {unobserved:?}",
                    clip.verdict
                ));
            }
            absent += 1;
        }
    }
    if clip.verdict == Verdict::Complete && (lost > 0 || !unobserved.is_empty()) {
        return Err(format!("{name} is complete, with {lost} events lost and {absent} unobserved"));
    }
    Ok((from, until))
}

fn unobserved(record: &Record<'_>) -> Option<Unobserved> {
    match record {
        Record::Unobserved(span) => Some(*span),
        _ => None,
    }
}
