//! A simulated recorder, which converts the events of the fake kernel to records.

use pmon_core::MonoNs;
use pmon_core::accounting::{Accountant, Continuity, Gap, LossByCause, LossLedger};
use pmon_core::capture::{
    ClockAnchor, Details, End, Fence, FencePosition, Loss, Record, RecordedDatagram, Usage, Witness,
};
use pmon_core::wire::Event;

/// Interval of the clock anchors, in ns.
const ANCHOR_INTERVAL_NS: u64 = 60_000_000_000;
/// Interval of the counts of drops and gaps while these change, in ns.
const WITNESS_INTERVAL_NS: u64 = 1_000_000_000;
/// Interval of the scans of all processes while events are lost, in ns.
const SCAN_INTERVAL_NS: u64 = 10_000_000_000;

/// A recorder that passes its records to `visit`.
pub(super) struct SynthRecorder<F> {
    visit: F,
    accountant: Accountant,
    ledger: LossLedger,
    lost: LossByCause,
    drops: u64,
    events: u64,
    start: ClockAnchor,
    anchor_at: u64,
    witness_at: u64,
    witnessed: (u64, u64),
    scan_at: u64,
    needs_scan: bool,
    /// Memory that the next usage reuses.
    usage: Option<Box<Usage>>,
}

impl<E, F: FnMut(&Record<'static>) -> Result<(), E>> SynthRecorder<F> {
    /// Starts a recording.
    pub(super) fn begin(start: ClockAnchor, mut visit: F) -> Result<Self, E> {
        visit(&Record::Clock(start))?;
        let now = start.mono.0;
        Ok(Self {
            visit,
            accountant: Accountant::new(),
            ledger: LossLedger::default(),
            lost: LossByCause::default(),
            drops: 0,
            events: 0,
            start,
            anchor_at: now + ANCHOR_INTERVAL_NS,
            witness_at: now + WITNESS_INTERVAL_NS,
            witnessed: (0, 0),
            scan_at: 0,
            needs_scan: false,
            usage: None,
        })
    }

    #[inline]
    pub(super) fn event(&mut self, event: Event, usage: Option<Usage>) -> Result<(), E> {
        let now = event.time.0;
        if now >= self.anchor_at || now >= self.witness_at {
            self.record_periodic(now)?;
        }
        if let Continuity::Gap(gap) = self.accountant.observe(&event, 0) {
            self.record_loss(gap)?;
        }
        self.events += 1;
        let usage = usage.map(|usage| {
            let mut reused = self.usage.take().unwrap_or_default();
            *reused = usage;
            reused
        });
        let record = Record::Event(RecordedDatagram::Event(event), usage);
        (self.visit)(&record)?;
        if let Record::Event(_, Some(usage)) = record {
            self.usage = Some(usage);
        }
        Ok(())
    }

    /// Counts an event that the socket dropped.
    #[inline]
    pub(super) fn drop(&mut self) {
        self.drops += 1;
    }

    /// Records details, and returns their memory.
    pub(super) fn details(&mut self, details: Box<Details>) -> Result<Option<Box<Details>>, E> {
        let record = Record::Details(details);
        (self.visit)(&record)?;
        Ok(if let Record::Details(details) = record { Some(details) } else { None })
    }

    pub(super) fn record(&mut self, record: &Record<'static>) -> Result<(), E> {
        (self.visit)(record)
    }

    pub(super) fn fence(&mut self, time: MonoNs, position: FencePosition) -> Result<(), E> {
        self.record(&Record::Fence(Fence { time, position, unreached: Vec::new() }))
    }

    /// Returns whether to scan all processes again, because events are missing.
    #[inline]
    pub(super) fn is_scan_due(&mut self, now: MonoNs) -> bool {
        let is_due = self.needs_scan && now.0 >= self.scan_at;
        if is_due {
            (self.needs_scan, self.scan_at) = (false, now.0 + SCAN_INTERVAL_NS);
        }
        is_due
    }

    pub(super) fn finish(mut self, time: MonoNs) -> Result<(), E> {
        self.record_witness(time)?;
        self.record(&Record::End(End {
            time,
            events: self.events,
            rejected: 0,
            malformed: 0,
            blind_ns: 0,
            drops: Some(self.drops),
            lost: self.lost,
        }))
    }

    fn record_loss(&mut self, gap: Gap) -> Result<(), E> {
        self.needs_scan = true;
        self.ledger.note_drops(self.drops);
        let causes = self.ledger.split(&gap);
        for loss in Loss::from_gap(gap, causes) {
            self.lost.add(loss.cause, loss.count());
            (self.visit)(&Record::Loss(loss))?;
        }
        Ok(())
    }

    #[cold]
    fn record_periodic(&mut self, now: u64) -> Result<(), E> {
        if now >= self.anchor_at {
            self.anchor_at = now + ANCHOR_INTERVAL_NS;
            let since = now - self.start.mono.0;
            self.record(&Record::Clock(ClockAnchor {
                mono: MonoNs(now),
                boot_ns: self.start.boot_ns + since,
                real_ns: self.start.real_ns + since as i64,
            }))?;
        }
        if now >= self.witness_at {
            self.witness_at = now + WITNESS_INTERVAL_NS;
            self.record_witness(MonoNs(now))?;
        }
        Ok(())
    }

    fn record_witness(&mut self, time: MonoNs) -> Result<(), E> {
        let (drops, gaps) = (self.drops, self.lost.in_source());
        if std::mem::replace(&mut self.witnessed, (drops, gaps)) == (drops, gaps) {
            return Ok(());
        }
        self.record(&Record::Witness(Witness { time, drops, gaps }))
    }
}
