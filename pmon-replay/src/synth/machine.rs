//! A simulated machine on the fake kernel. Services start jobs, which execute the behavior of their
//! programs step by step.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use oorandom::Rand32;
use pmon_core::batch::Batch;
use pmon_core::capture::{Details, ProcessState, Usage};
use pmon_core::source::Source;
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};
use pmon_fake::{Kernel, Socket};

use super::actors::{ActorHandle, ActorTable};
use super::bursts::Bursts;
use super::details;
use super::options::SynthOptions;
use super::programs::{Program, Service};

/// Uptime of the machine at the start of the recording.
const UPTIME: Duration = Duration::from_secs(3600);
/// Capacity of the batch, in events. No single action of an actor causes more events.
const BATCH_EVENTS: usize = 256;
/// Receive buffer of the recorder's socket, in bytes.
const SOCKET_BUFFER: i32 = 64 << 20;

/// The state of the simulated machine.
pub(super) struct SynthMachine {
    pub(super) options: SynthOptions,
    pub(super) kernel: Kernel,
    pub(super) random: Rand32,
    pub(super) actors: ActorTable,
    pub(super) init: ActorHandle,
    /// Services, which run all the time and start the jobs.
    pub(super) services: Vec<ActorHandle>,
    /// Run queue: jobs that wait for a CPU.
    pub(super) queue: VecDeque<ActorHandle>,
    pub(super) recorder: Task,
    /// Thread of the recorder that emits the fence events.
    pub(super) fence_thread: Task,
    pub(super) socket: Socket,
    pub(super) batch: Batch,
    /// Details whose memory is reused.
    pub(super) reused_details: Option<Box<Details>>,
    pub(super) bursts: Bursts,
    /// Number of remaining events.
    pub(super) left: u64,
    /// Due time of the next event since the start, in units of 1/rate ns.
    pub(super) due: u128,
    pub(super) start: MonoNs,
    /// Memory that the next arguments reuse.
    pub(super) args: String,
    pub(super) now: MonoNs,
}

impl SynthMachine {
    /// Boots a machine, and lets it run for [`UPTIME`].
    pub(super) fn boot(options: SynthOptions) -> Self {
        let kernel = Kernel::new(options.cpus);
        let socket = kernel.socket();
        let mut actors = ActorTable::default();
        let init = actors.add(Task::new(1, 1), MonoNs(0), None, &INIT, &INIT.program);
        let mut machine = Self {
            options,
            random: Rand32::new(options.seed),
            actors,
            init,
            services: Vec::new(),
            queue: VecDeque::new(),
            recorder: Task::default(),
            fence_thread: Task::default(),
            socket,
            batch: Batch::with_capacity(BATCH_EVENTS),
            reused_details: None,
            bursts: Bursts::new(options.events, options.loss_ppm, options.seed),
            left: options.events,
            due: 0,
            start: MonoNs(0),
            args: String::new(),
            now: MonoNs(0),
            kernel,
        };
        machine.start_services();
        machine.set_sequence_numbers();
        machine
    }

    /// Returns the process ID of the recorder.
    pub(super) fn recorder(&self) -> Tgid {
        self.recorder.tgid
    }

    /// Returns `true` with a probability of one in `of`.
    pub(super) fn chance(&mut self, of: u32) -> bool {
        self.random.rand_u32().is_multiple_of(of)
    }

    /// Returns a random number within inclusive bounds.
    pub(super) fn between(&mut self, (min, max): (u32, u32)) -> u32 {
        if min == max { min } else { self.random.rand_range(min..max + 1) }
    }

    pub(super) fn one_of<T>(&mut self, of: &'static [T]) -> &'static T {
        &of[self.random.rand_range(0..of.len() as u32) as usize]
    }

    /// Sets the time per event to a random value, so that the mean rate is as requested.
    pub(super) fn set_pace(&mut self) {
        let due = self.start.0 + (self.due / u128::from(self.options.rate)) as u64;
        let mean = (due + 1_000_000_000 / u64::from(self.options.rate)).saturating_sub(self.now.0).max(1);
        let random = u128::from(self.random.rand_u32());
        let pace = 1 + ((random * u128::from(2 * mean - 1)) >> 32) as u64;
        self.kernel.set_time_per_event(Duration::from_nanos(pace));
    }

    pub(super) fn usage(
        &mut self,
        actor: ActorHandle,
        task: Task,
        threads: u32,
        process: ProcessState,
    ) -> Usage {
        let actor = self.actors.get(actor);
        let started = actor.map_or(MonoNs(0), |actor| {
            let thread = actor.threads.iter().find(|&&(tid, _)| tid == task.tid);
            thread.map_or(actor.started, |&(_, started)| started)
        });
        details::usage(&mut self.random, (started, self.now), task.is_leader(), threads, process)
    }

    /// Subscribes the recorder. Its acknowledgement is received before the first event.
    pub(super) fn listen(&mut self) {
        // These calls cannot fail on a new socket with all privileges.
        let _ = self.socket.force_rcvbuf(SOCKET_BUFFER);
        let _ = self.socket.listen();
        let _ = self.socket.receive(&mut self.batch);
        self.batch.clear();
    }

    /// Starts init, the recorder, and the services with their workers.
    fn start_services(&mut self) {
        let init = Task::new(1, 1);
        self.kernel.exec(init, INIT.program.path, INIT.program.args);
        let recorder = self.start_service(&RECORDER, None);
        self.recorder = self.actors.get(recorder).map_or(init, |actor| actor.task);
        self.fence_thread = self.kernel.clone_thread(self.recorder);
        let started = self.kernel.now();
        if let Some(actor) = self.actors.get_mut(recorder) {
            actor.threads.push((self.fence_thread.tid, started));
        }
        let all = self.options.profile.services();
        for service in all {
            let service = self.start_service(service, None);
            if let Some(actor) = self.actors.get_mut(service) {
                actor.is_service = true;
            }
            self.services.push(service);
        }
        // One third of the maximum number of processes are workers, which run all the time.
        let workers = (self.options.processes as usize / 3).saturating_sub(self.actors.len());
        for n in 0..workers {
            let service = self.services[n % all.len()];
            self.start_service(all[n % all.len()], Some(service));
        }
        let uptime = UPTIME.as_nanos() as u64 + u64::from(self.random.rand_u32());
        self.kernel.advance(Duration::from_nanos(uptime.saturating_sub(self.kernel.now().0)));
        self.now = self.kernel.now();
    }

    /// Starts a service, or a worker of a service, which runs the same program.
    fn start_service(&mut self, service: &'static Service, parent: Option<ActorHandle>) -> ActorHandle {
        let parent_handle = parent.unwrap_or(self.init);
        let task = self.actors.get(parent_handle).map_or(Task::new(1, 1), |actor| actor.task);
        let delay = Duration::from_micros(self.between((100, 9_000)).into());
        self.kernel.advance(delay);
        let task = self.kernel.fork(task);
        let actor = self.actors.add(task, self.kernel.now(), Some(parent_handle), service, &service.program);
        if parent.is_none() {
            self.kernel.setsid(task);
            self.exec(task, &service.program, 0);
        }
        self.kernel.setgid(task, service.uid, service.uid);
        self.kernel.setuid(task, service.uid, service.uid);
        actor
    }

    /// Executes a program, with `number` in place of each `#` in its arguments.
    pub(super) fn exec(&mut self, task: Task, program: &Program, number: u32) {
        self.args.clear();
        for part in program.args.iter().flat_map(|arg| [arg, "\0"]) {
            match part.split_once('#') {
                Some((before, after)) => {
                    // Writing to a string cannot fail.
                    let _ = write!(self.args, "{before}{number}{after}");
                }
                None => self.args.push_str(part),
            }
        }
        let args: Vec<_> = self.args.split_terminator('\0').collect();
        self.kernel.exec(task, program.path, &args);
    }

    /// Sets the sequence number of each CPU to a random value, for some CPUs shortly before the
    /// wrap.
    fn set_sequence_numbers(&mut self) {
        for cpu in 0..self.options.cpus {
            let wraps = self.chance(8);
            let number = self.random.rand_u32();
            self.kernel
                .set_next_seq(Cpu(cpu), Seq(if wraps { u32::MAX - (number & 0xff) } else { number >> 1 }));
        }
    }
}

static INIT: Service = Service::of_system("/usr/lib/systemd/systemd", &["/sbin/init"], "0::/init.scope");
static RECORDER: Service =
    Service::of_system("/usr/bin/pmon", &["pmon", "record"], "0::/system.slice/pmon.service");
