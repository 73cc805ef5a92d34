//! What happens in a simulation, drawn from a seed.

use std::time::Duration;

use oorandom::Rand32;
use pmon_store::simulated::{Conditions, Operation};
use pmon_store::{RetentionLimits, StoreOptions};

use super::StoreSimulationError;
use super::mistake::Mistake;
use super::run::Run;

/// A recording into a store, in virtual time.
#[derive(Clone, Debug)]
pub struct StoreSimulation {
    pub(super) seed: u64,
    pub(super) cpus: u32,
    pub(super) options: StoreOptions,
    pub(super) conditions: Conditions,
    /// The recorder crashes before one in this many operations.
    pub(super) crash_rate: u32,
    actions: Vec<Action>,
    /// Whether a trigger requests clips.
    pub(super) has_clips: bool,
    pub(super) mistake: Option<Mistake>,
}

/// Something that happens in a simulation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// The machine emits events in each of that many steps; one in `drop_rate` is dropped.
    Work { steps: u32, events: u32, drop_rate: u32 },
    /// A user requests a rotation.
    Rotate,
    /// The recorder is killed, and the next one starts.
    Kill { keeps_socket: bool },
    /// The recorder ends, and the next one starts after that many events.
    Stop { keeps_socket: bool, events: u32 },
    /// The machine loses power, and starts again.
    PowerLoss,
    /// The real-time clock is stepped by that many ms.
    StepClock(i32),
    /// Other writers now use this part of the disk, in percent.
    Fill(u32),
    /// An operation fails.
    Fail { operation: Operation, skip: u32, errno: i32 },
    /// The filesystem becomes read-only for that many steps.
    ReadOnly(u32),
    /// Another program removes a segment.
    Delete(u32),
}

/// What a simulation has checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreSimulationTotals {
    /// Number of events found in the store at the end.
    pub events: u64,
    /// Number of events that the store has recorded as lost.
    pub lost: u64,
    /// Number of segments at the end.
    pub segments: u64,
    /// Number of clips that were made.
    pub clips: u64,
    /// Number of operations after which the recorder was crashed.
    pub crashes: u64,
    /// Checksum of the names and bytes of all files at the end.
    pub digest: u32,
}

impl StoreSimulation {
    /// Draws a simulation from a seed.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Rand32::new(seed);
        let mut below = |n: u32| random.rand_range(0..n);
        let cpus = 1 + below(3);
        let options = StoreOptions {
            rotate_size: [12 << 10, 20 << 10, 1 << 20][below(3) as usize],
            rotate_every: Duration::from_secs([1, 3, 600][below(3) as usize]),
            limits: RetentionLimits {
                max_use: (below(2) == 0).then(|| (600 << 10) + u64::from(below(1 << 20))),
                max_age: (below(4) == 0).then(|| Duration::from_secs(2 + u64::from(below(10)))),
                keep_free: (below(3) == 0).then(|| u64::from(below(400 << 10))),
            },
            journal: true,
        };
        let has_limit = below(3) == 0;
        let conditions = Conditions {
            capacity: has_limit.then(|| (2 << 20) + u64::from(below(2 << 20))),
            size_limit: (below(12) == 0).then(|| (64 << 10) + u64::from(below(1 << 20))),
            sync_takes: Duration::from_millis([0, 0, 5, 60, 900][below(5) as usize]),
            works_late: below(2) == 0,
            has_no_holes: below(12) == 0,
            has_no_punch: below(6) == 0,
            has_no_directory_sync: below(12) == 0,
            drops_pages: below(2) == 0,
            ..Conditions::default()
        };
        let has_failures = below(3) == 0;
        let actions = (0..6 + below(14)).map(|_| match below(20) {
            0 | 1 => Action::Rotate,
            2 => Action::Kill { keeps_socket: below(2) == 0 },
            3 => Action::Stop { keeps_socket: below(2) == 0, events: below(60) },
            4 => Action::PowerLoss,
            5 | 6 => Action::StepClock(below(7_200_000) as i32 - 3_600_000),
            7 | 8 if has_limit => Action::Fill(below(101)),
            9 | 10 if has_failures => {
                let operation = [
                    Operation::Create,
                    Operation::Write,
                    Operation::SetLen,
                    Operation::Sync,
                    Operation::Rename,
                    Operation::Remove,
                    Operation::SyncDirectory,
                ][below(7) as usize];
                let errno = [libc::EIO, libc::EIO, libc::ENOSPC, libc::EDQUOT][below(4) as usize];
                Action::Fail { operation, skip: below(6), errno }
            }
            11 if has_failures => Action::ReadOnly(1 + below(60)),
            12 if below(2) == 0 => Action::Delete(below(100)),
            _ => Action::Work {
                steps: 1 + below(120),
                events: [1, 5, 20][below(3) as usize],
                drop_rate: [0, 0, 30, 300][below(4) as usize],
            },
        });
        let actions = actions.collect();
        let crash_rate = 40;
        let has_clips = Rand32::new(seed ^ 0x636c_6970).rand_range(0..2) == 0;
        Self { seed, cpus, options, conditions, crash_rate, actions, has_clips, mistake: None }
    }

    /// Crashes the recorder before every operation.
    pub fn with_all_crashes(self) -> Self {
        Self { crash_rate: 1, ..self }
    }

    /// Limits the store to that many bytes.
    pub fn with_limit(mut self, max_use: u64) -> Self {
        self.options.limits.max_use = Some(max_use);
        self
    }

    /// Makes a mistake that the simulation must find.
    pub fn with_mistake(mut self, mistake: Mistake) -> Self {
        if let Mistake::Omits(operation) = mistake {
            self.conditions.omits = Some(operation);
        }
        self.mistake = Some(mistake);
        self
    }

    /// Performs the simulation, and checks the store.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn run(&self) -> Result<StoreSimulationTotals, StoreSimulationError> {
        let mut run = Run::begin(self)?;
        for (number, &action) in self.actions.iter().enumerate() {
            run.perform(action).map_err(|source| StoreSimulationError::Action {
                action: format!("action {number}, {action:?}"),
                source: Box::new(source),
            })?;
        }
        run.end()
    }
}
