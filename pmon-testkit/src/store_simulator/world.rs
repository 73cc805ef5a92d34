//! The simulated machine with its kernel, its filesystem, and the truth about both.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use oorandom::Rand32;
use pmon_core::{Cpu, MonoNs};
use pmon_store::simulated::SimulatedFilesystem;

use super::clips::AnsweredRequest;
use super::crash::{Expectations, lock};
use super::machine::{EmittedEvent, Machine};
use super::mistake::Mistake;
use super::openings::ExpectedOpenings;
use super::truth::Fate;

/// The machine with its filesystem, and the truth about both.
pub(super) struct World {
    pub(super) fs: SimulatedFilesystem,
    pub(super) machine: Machine,
    pub(super) expected: Arc<Mutex<Expectations>>,
    pub(super) random: Rand32,
    /// The real time at which the virtual time began. Only differences matter.
    pub(super) origin: Instant,
    /// The events that wait in the kernel for a recorder.
    pub(super) queue: VecDeque<EmittedEvent>,
    /// Whether a socket is open: the kernel queues events.
    pub(super) is_listening: bool,
    /// The socket's count of drops.
    pub(super) drops: u64,
    /// Time at which the socket was opened.
    pub(super) opened_at: MonoNs,
    /// The processes at each division.
    pub(super) openings: ExpectedOpenings,
    /// Whether the store has received every event since its process table was complete.
    pub(super) is_exact: bool,
    /// The mistake that the recorder makes.
    pub(super) mistake: Option<Mistake>,
    /// Whether recorders make clips.
    pub(super) has_clips: bool,
    /// Requests for clips whose results have not been checked yet.
    pub(super) answered: Vec<AnsweredRequest>,
}

impl World {
    pub(super) fn new(cpus: u32, seed: u64) -> Self {
        let machine = Machine::new(cpus, seed);
        let mut expected = Expectations::default();
        expected.truth.begin_boot(machine.boot_id(), &machine.first);
        let fs = SimulatedFilesystem::default();
        fs.seed_uuids(seed);
        Self {
            fs,
            machine,
            expected: Arc::new(Mutex::new(expected)),
            random: Rand32::new(seed ^ 0x776f_726c),
            origin: Instant::now(),
            queue: VecDeque::new(),
            is_listening: false,
            drops: 0,
            opened_at: MonoNs(0),
            openings: ExpectedOpenings::default(),
            is_exact: true,
            mistake: None,
            has_clips: false,
            answered: Vec::new(),
        }
    }

    pub(super) fn expected(&self) -> MutexGuard<'_, Expectations> {
        lock(&self.expected)
    }

    /// Returns the time without that in which the writer waited for the disk.
    pub(super) fn clock(&self) -> Duration {
        self.expected().clock
    }

    pub(super) fn now(&self) -> Instant {
        self.origin + self.fs.now()
    }

    pub(super) fn advance(&mut self, time: Duration) {
        self.fs.set_now(self.fs.now() + time);
        self.expected().clock += time;
        self.machine.advance(time.as_nanos() as u64);
    }

    /// Lets the machine emit events. The kernel drops one in `1 / drop_rate`.
    pub(super) fn emit(&mut self, events: u32, drop_rate: u32) {
        for _ in 0..events {
            let emitted = self.machine.emit();
            let is_dropped = self.is_listening && drop_rate > 0 && self.random.rand_range(0..drop_rate) == 0;
            self.drops += u64::from(is_dropped);
            self.is_exact &= !is_dropped;
            self.expected().truth.emit(emitted.event, if is_dropped { Fate::Dropped } else { Fate::Emitted });
            if self.is_listening && !is_dropped {
                self.queue.push_back(emitted);
            }
        }
    }

    pub(super) fn emit_fences(&mut self) {
        for cpu in 0..self.machine.first.len() {
            let emitted = self.machine.emit_fence(Cpu(cpu as u32));
            self.expected().truth.emit(emitted.event, Fate::Emitted);
            self.queue.push_back(emitted);
        }
    }

    /// Closes the socket: events that wait are gone.
    pub(super) fn close_socket(&mut self) {
        self.queue.clear();
        (self.is_listening, self.drops) = (false, 0);
    }

    pub(super) fn reboot(&mut self) {
        self.close_socket();
        self.machine.boot();
        self.expected().truth.begin_boot(self.machine.boot_id(), &self.machine.first);
    }
}
