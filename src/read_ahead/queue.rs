//! The queue between the thread that reads and the one that uses the records.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use pmon_analysis::{OwnedRecord, TimelineItem};
use pmon_core::capture::{Damage, Details, Header, Junction, Record, RecordPool, Usage};

use super::batch::RecordBatch;
use crate::exit::{self, Failure};
use crate::input::ReadOutcome;

/// Memory in bytes of the records that wait. The last batch can exceed it.
const MAX_BYTES: usize = 2 << 20;
/// Number of boxes of each kind that a [`Recycler`] collects before it returns them.
const RETURNED: usize = 128;
/// Number of boxes of each kind that wait for the reading thread; further ones are freed.
const MAX_RETURNED: usize = 4096;

/// What the reading thread passes on.
pub(super) enum Message {
    /// Records of a block.
    Records(RecordBatch),
    /// The end of a part.
    End {
        end: PartEnd,
        position: Position,
        /// Messages for standard error.
        notices: Vec<String>,
    },
    /// The recording cannot be read.
    Failed(Failure),
}

/// What ends with a message.
pub(super) enum PartEnd {
    Block,
    Damage(String, Damage),
    Segment(Box<Option<Header>>, Junction),
    Recording,
}

/// How far a recording was read.
#[derive(Clone, Copy)]
pub(super) struct Position {
    pub(super) offset: u64,
    pub(super) outcome: ReadOutcome,
}

/// A queue whose records take a limited memory.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    /// Notified when a message was added, or when no further one will be.
    added: Condvar,
    /// Notified when a message was removed, or when no further one will be.
    removed: Condvar,
}

#[derive(Default)]
#[allow(clippy::vec_box, reason = "records hold these boxes")]
struct QueueState {
    messages: VecDeque<Message>,
    /// Memory of the records in `messages`.
    bytes: usize,
    /// Whether no further message is added.
    has_ended: bool,
    /// Whether no further message is removed.
    is_closed: bool,
    /// Empty batches, and boxes that are no longer needed.
    batches: Vec<RecordBatch>,
    details: Vec<Box<Details>>,
    usages: Vec<Box<Usage>>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message, once there is room. Returns `false` if the queue is closed.
    pub(super) fn push(&self, message: Message) -> bool {
        let is_full = |state: &mut QueueState| state.bytes >= MAX_BYTES && !state.is_closed;
        let waited = self.removed.wait_while(self.lock(), is_full);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if let Message::Records(batch) = &message {
            state.bytes += batch.bytes();
        }
        state.messages.push_back(message);
        self.added.notify_one();
        !state.is_closed
    }

    /// Removes the next message, once there is one.
    pub(super) fn pop(&self) -> Result<Message, Failure> {
        let is_empty = |state: &mut QueueState| state.messages.is_empty() && !state.has_ended;
        let waited = self.added.wait_while(self.lock(), is_empty);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let ended = || Failure::new(exit::INTERNAL, "the thread that reads the recording has ended early");
        let message = state.messages.pop_front().ok_or_else(ended)?;
        if let Message::Records(batch) = &message {
            state.bytes -= batch.bytes();
        }
        self.removed.notify_one();
        Ok(message)
    }

    /// Lets the reading thread end.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.messages.clear();
        self.removed.notify_one();
    }

    /// Returns a guard that ends the queue when it is dropped, even by a panic.
    pub(super) fn end_guard(self: &Arc<Self>) -> EndGuard {
        EndGuard(Arc::clone(self))
    }

    /// Returns an empty batch.
    pub(super) fn return_batch(&self, batch: RecordBatch) {
        self.lock().batches.push(batch);
    }

    /// Takes an empty batch, and the boxes that are no longer needed.
    pub(super) fn take_spent(&self, pool: &RecordPool) -> RecordBatch {
        let mut state = self.lock();
        state.details.drain(..).for_each(|details| pool.add_details(details));
        state.usages.drain(..).for_each(|usage| pool.add_usage(usage));
        state.batches.pop().unwrap_or_default()
    }
}

/// Ends a queue when it is dropped.
pub(super) struct EndGuard(Arc<Queue>);

impl EndGuard {
    pub(super) fn queue(&self) -> &Queue {
        &self.0
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.lock().has_ended = true;
        self.0.added.notify_one();
    }
}

/// Returns the memory of records to the thread that reads.
#[allow(clippy::vec_box, reason = "records hold these boxes")]
pub(crate) struct Recycler {
    queue: Arc<Queue>,
    details: Vec<Box<Details>>,
    usages: Vec<Box<Usage>>,
}

impl Recycler {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self { queue, details: Vec::new(), usages: Vec::new() }
    }

    /// Takes a record that is no longer needed.
    #[inline]
    pub(crate) fn take_record(&mut self, record: Record<'_>) {
        match record {
            Record::Event(_, Some(usage)) => self.take(None, Some(usage)),
            Record::Details(details) => self.take(Some(details), None),
            _ => {}
        }
    }

    /// Takes a record that is no longer needed.
    #[inline]
    pub(crate) fn take_entry(&mut self, entry: OwnedRecord) {
        match entry {
            OwnedRecord::Event(TimelineItem { details, usage, .. }) => self.take(details, usage),
            OwnedRecord::Details(details) => self.take(Some(details), None),
            _ => {}
        }
    }

    fn take(&mut self, details: Option<Box<Details>>, usage: Option<Box<Usage>>) {
        self.details.extend(details.filter(|details| RecordPool::keeps(details)));
        self.usages.extend(usage);
        if self.details.len().max(self.usages.len()) >= RETURNED {
            self.return_all();
        }
    }

    fn return_all(&mut self) {
        let mut state = self.queue.lock();
        if state.details.len().max(state.usages.len()) < MAX_RETURNED {
            state.details.append(&mut self.details);
            state.usages.append(&mut self.usages);
        }
        drop(state);
        self.details.clear();
        self.usages.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn records(bytes: usize) -> Message {
        let mut batch = RecordBatch::default();
        batch.push(pmon_core::capture::RecordedDatagram::Raw(&vec![0; bytes]).into());
        Message::Records(batch)
    }

    #[test]
    fn messages_arrive_in_order_and_a_full_queue_waits() {
        let queue = Arc::new(Queue::default());
        let end = queue.end_guard();
        let thread =
            thread::spawn(move || (0..100).filter(|n| end.queue().push(records(MAX_BYTES / 4 + n))).count());
        for n in 0..100 {
            let Ok(Message::Records(mut batch)) = queue.pop() else { panic!("no batch {n}") };
            assert!(queue.lock().bytes < 2 * MAX_BYTES);
            let mut lens = Vec::new();
            let _ = batch.drain(|record| {
                let Record::Event(datagram, _) = record else { return Err(()) };
                datagram.with_bytes(pmon_core::wire::ByteOrder::Little, |bytes| lens.push(bytes.len()));
                Ok(())
            });
            assert_eq!(lens, [MAX_BYTES / 4 + n]);
        }
        assert_eq!(thread.join().ok(), Some(100));
        // The guard was dropped with the thread, as it is after a panic.
        assert!(queue.pop().is_err());
    }

    #[test]
    fn a_closed_queue_accepts_no_message_and_does_not_wait() {
        let queue = Queue::default();
        assert!(queue.push(records(MAX_BYTES)));
        queue.close();
        assert!(!queue.push(records(MAX_BYTES)));
        assert!(!queue.push(records(MAX_BYTES)));
    }

    #[test]
    fn the_memory_of_records_returns_to_the_reader() {
        let queue = Arc::new(Queue::default());
        let mut recycler = Recycler::new(Arc::clone(&queue));
        for _ in 0..RETURNED {
            recycler.take_entry(OwnedRecord::Event(TimelineItem {
                event: None,
                raw: None,
                details: None,
                usage: Some(Box::default()),
            }));
        }
        assert_eq!((queue.lock().usages.len(), recycler.usages.len()), (RETURNED, 0));
        queue.return_batch(RecordBatch::default());
        queue.take_spent(&RecordPool::default());
        let state = queue.lock();
        assert_eq!((state.usages.len(), state.batches.len()), (0, 0));
    }
}
