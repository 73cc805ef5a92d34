//! Requests that wait for their clip. Every time is an argument.

use std::sync::mpsc;

use pmon_core::MonoNs;

use super::request::{Clip, ClipError, ClipName, ClipRequest};

/// Maximum number of clips that wait.
pub(super) const MAX_PENDING: usize = 64;
/// Maximum number of requests that one clip answers.
const MAX_REPLIES: usize = 256;
/// Maximum number of names in the name of a file.
const MAX_NAMES: usize = 4;
/// Maximum length of a clip that requests extend, in ns: an hour. Triggers that fire all the time
/// would extend it forever.
pub(crate) const MAX_LENGTH: u64 = 3_600_000_000_000;

/// Where the result of a request goes.
pub(crate) type ReplySender = mpsc::Sender<Result<Clip, ClipError>>;

/// Who receives the result of a request.
#[derive(Debug)]
pub(crate) enum Recipient {
    /// The caller, which waits for its own result.
    Ticket(ReplySender),
    /// The log, which receives one result for all such requests of a clip.
    Reports(ReplySender),
}

/// Requests that overlap and are answered by one clip.
#[derive(Debug)]
pub(crate) struct PendingClip {
    /// First time of the clip.
    pub(super) from: MonoNs,
    /// Last time of the clip.
    pub(super) until: MonoNs,
    /// The earliest moment that was requested.
    pub(super) at: MonoNs,
    /// Distinct names of the requests, in their order.
    pub(super) names: Vec<ClipName>,
    pub(super) replies: Vec<ReplySender>,
    reports: Option<ReplySender>,
}

impl PendingClip {
    fn new(request: &ClipRequest, recipient: Recipient) -> Self {
        let (from, until) = (request.from(), request.until());
        let (replies, reports) = match recipient {
            Recipient::Ticket(reply) => (vec![reply], None),
            Recipient::Reports(reports) => (Vec::new(), Some(reports)),
        };
        Self { from, until, at: request.at, names: vec![request.name.clone()], replies, reports }
    }

    /// Returns whether one clip can answer these requests and another's.
    fn merges_with(&self, other: &Self) -> bool {
        let overlaps = self.from <= other.until && other.from <= self.until;
        let from = self.from.min(other.from);
        let length = self.until.max(other.until).0.saturating_sub(from.0);
        let own = |clip: &Self| clip.until.0.saturating_sub(clip.from.0);
        overlaps
            && length <= MAX_LENGTH.max(own(self)).max(own(other))
            && self.replies.len() + other.replies.len() <= MAX_REPLIES
    }

    fn merge(&mut self, other: Self) {
        self.from = self.from.min(other.from);
        self.until = self.until.max(other.until);
        self.at = self.at.min(other.at);
        for name in other.names {
            if self.names.len() < MAX_NAMES && !self.names.contains(&name) {
                self.names.push(name);
            }
        }
        self.replies.extend(other.replies);
        self.reports = self.reports.take().or(other.reports);
    }

    /// Sends the result to all requests. A client that has gone is no error.
    pub(super) fn answer(self, result: &Result<Clip, ClipError>) {
        for reply in self.replies.into_iter().chain(self.reports) {
            let _ = reply.send(result.clone());
        }
    }
}

/// The clips that wait for the end of their time.
#[derive(Debug, Default)]
pub(super) struct ClipQueue {
    pending: Vec<PendingClip>,
}

impl ClipQueue {
    /// Adds a request. It becomes part of each pending clip that it overlaps.
    pub(super) fn add(&mut self, request: &ClipRequest, recipient: Recipient) {
        let mut clip = PendingClip::new(request, recipient);
        // A request can connect two pending clips.
        while let Some(at) = self.pending.iter().position(|pending| pending.merges_with(&clip)) {
            let mut earlier = self.pending.remove(at);
            earlier.merge(clip);
            clip = earlier;
        }
        if self.pending.len() >= MAX_PENDING {
            let pending = self.pending.len();
            let request = Box::new(request.clone());
            return clip.answer(&Err(ClipError::Busy { pending, request }));
        }
        self.pending.push(clip);
    }

    /// Returns the earliest time at which a clip is over.
    pub(super) fn next_due(&self) -> Option<MonoNs> {
        self.pending.iter().map(|clip| clip.until).min()
    }

    /// Returns whether a clip is over at `now`.
    pub(super) fn is_due(&self, now: MonoNs) -> bool {
        self.next_due().is_some_and(|due| due < now)
    }

    /// Removes and returns a clip that is over at `now`.
    pub(super) fn take_due(&mut self, now: MonoNs) -> Option<PendingClip> {
        let due = self.pending.iter().position(|clip| clip.until < now)?;
        Some(self.pending.remove(due))
    }

    /// Removes and returns any clip.
    pub(super) fn take_any(&mut self) -> Option<PendingClip> {
        (!self.pending.is_empty()).then(|| self.pending.remove(0))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn request(name: &str, at: u64, before: u64, after: u64) -> ClipRequest {
        ClipRequest {
            name: ClipName::new(name).unwrap(),
            at: MonoNs(at * SECOND),
            before: Duration::from_secs(before),
            after: Duration::from_secs(after),
        }
    }

    fn add(queue: &mut ClipQueue, request: &ClipRequest) -> mpsc::Receiver<Result<Clip, ClipError>> {
        let (reply, ticket) = mpsc::channel();
        queue.add(request, Recipient::Ticket(reply));
        ticket
    }

    fn spans(queue: &ClipQueue) -> Vec<(u64, u64, Vec<&str>)> {
        let mut spans = Vec::new();
        for PendingClip { from, until, names, .. } in &queue.pending {
            let names = names.iter().map(ClipName::as_str).collect();
            spans.push((from.0 / SECOND, until.0 / SECOND, names));
        }
        spans
    }

    #[test]
    fn overlapping_requests_become_one_clip_with_all_their_names() {
        let mut queue = ClipQueue::default();
        let _first = add(&mut queue, &request("a", 100, 30, 10));
        let _second = add(&mut queue, &request("b", 200, 30, 10));
        assert_eq!(spans(&queue), [(70, 110, vec!["a"]), (170, 210, vec!["b"])]);
        // A request while one is pending extends it.
        let _third = add(&mut queue, &request("c", 108, 5, 10));
        assert_eq!(spans(&queue), [(170, 210, vec!["b"]), (70, 118, vec!["a", "c"])]);
        // A request can connect two others.
        let _fourth = add(&mut queue, &request("a", 150, 40, 30));
        assert_eq!(spans(&queue).len(), 1);
        assert_eq!((spans(&queue)[0].0, spans(&queue)[0].1), (70, 210));
    }

    #[test]
    fn a_clip_is_due_after_its_last_time() {
        let mut queue = ClipQueue::default();
        let ticket = add(&mut queue, &request("a", 100, 30, 10));
        assert_eq!(queue.next_due(), Some(MonoNs(110 * SECOND)));
        assert!(queue.take_due(MonoNs(110 * SECOND)).is_none());
        let clip = queue.take_due(MonoNs(110 * SECOND + 1)).unwrap();
        assert!(queue.take_any().is_none());
        clip.answer(&Err(ClipError::Ended));
        assert!(matches!(ticket.recv(), Ok(Err(ClipError::Ended))));
    }

    #[test]
    fn triggers_that_fire_all_the_time_request_one_clip_and_one_report() {
        let mut queue = ClipQueue::default();
        let (reports, reported) = mpsc::channel();
        for _ in 0..10_000 {
            queue.add(&request("storm", 100, 30, 10), Recipient::Reports(reports.clone()));
        }
        let ticket = add(&mut queue, &request("crash", 101, 30, 10));
        assert_eq!(spans(&queue), [(70, 111, vec!["storm", "crash"])]);
        queue.take_any().unwrap().answer(&Err(ClipError::Ended));
        assert!(matches!(ticket.try_recv(), Ok(Err(ClipError::Ended))));
        assert_eq!(reported.try_iter().count(), 1);
    }

    #[test]
    fn the_length_and_the_number_of_clips_are_bounded() {
        let mut queue = ClipQueue::default();
        let tickets: Vec<_> =
            (0..4000).map(|second| add(&mut queue, &request("storm", second, 30, 10))).collect();
        assert!(queue.pending.iter().all(|clip| clip.until.0 - clip.from.0 <= MAX_LENGTH));
        assert!(queue.pending.iter().all(|clip| clip.replies.len() <= MAX_REPLIES));
        let answered = tickets.iter().filter(|ticket| ticket.try_recv().is_ok()).count();
        assert_eq!(answered, 0);
        let tickets: Vec<_> =
            (0..100).map(|at| add(&mut queue, &request("x", 1_000_000 + 1000 * at, 1, 1))).collect();
        assert_eq!(queue.pending.len(), MAX_PENDING);
        let refused = tickets[99].try_recv().unwrap().unwrap_err();
        let ClipError::Busy { request, .. } = refused else { panic!("{refused}") };
        assert_eq!(request.at, MonoNs(1_099_000 * SECOND));
    }
}
