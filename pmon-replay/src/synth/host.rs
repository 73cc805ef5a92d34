//! A host on the fake kernel: services that start jobs, which do what their programs have them do, step by step.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use oorandom::Rand32;
use pmon_core::batch::Batch;
use pmon_core::capture::{
    ClockAnchor, Details, DetailsSubject, FencePosition, ProcessState, Record, SelfGenerated, Snapshot,
    SnapshotReason, Usage,
};
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};
use pmon_fake::{Kernel, Socket};

use super::SynthOptions;
use super::actors::{Actors, Handle};
use super::bursts::Bursts;
use super::facts;
use super::programs::{Program, Service};
use super::records::Recorder;

/// Who logs in.
pub(super) const USER: u32 = 1000;
/// The host is so old when the recording starts.
const UPTIME: Duration = Duration::from_secs(3600);
/// Room for the events of any one verb.
const BATCH: usize = 256;
const SOCKET: i32 = 64 << 20;

/// See the module.
pub(super) struct World {
    pub(super) options: SynthOptions,
    pub(super) kernel: Kernel,
    pub(super) random: Rand32,
    pub(super) actors: Actors,
    pub(super) init: Handle,
    /// They are always there, and start the others.
    pub(super) services: Vec<Handle>,
    /// Jobs that wait for a CPU.
    pub(super) queue: VecDeque<Handle>,
    recorder: Task,
    /// The recorder's thread that is heard of each CPU.
    pulse: Task,
    socket: Socket,
    batch: Batch,
    spare: Option<Box<Details>>,
    bursts: Bursts,
    /// Events that are still to happen.
    pub(super) left: u64,
    /// When the next one should happen, in 1/rate ns since the start.
    due: u128,
    start: MonoNs,
    /// Memory for the next arguments.
    args: String,
    pub(super) now: MonoNs,
}

impl World {
    /// A host that has been up for some time, and on which nothing has been recorded.
    pub(super) fn boot(options: SynthOptions) -> Self {
        let kernel = Kernel::new(options.cpus);
        let socket = kernel.socket();
        let mut actors = Actors::default();
        let init = actors.begin(Task::new(1, 1), MonoNs(0), None, &INIT, &INIT.program);
        let mut world = Self {
            options,
            random: Rand32::new(options.seed),
            actors,
            init,
            services: Vec::new(),
            queue: VecDeque::new(),
            recorder: Task::default(),
            pulse: Task::default(),
            socket,
            batch: Batch::with_capacity(BATCH),
            spare: None,
            bursts: Bursts::new(options.events, options.loss_ppm, options.seed),
            left: options.events,
            due: 0,
            start: MonoNs(0),
            args: String::new(),
            now: MonoNs(0),
            kernel,
        };
        world.start_up();
        world.number_cpus();
        world
    }

    /// The recorder's process.
    pub(super) fn recorder(&self) -> Tgid {
        self.recorder.tgid
    }

    /// Records all of it, from `start` on.
    pub(super) fn record<E>(
        mut self,
        start: ClockAnchor,
        visit: impl FnMut(&Record<'static>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut recorder = Recorder::begin(start, visit)?;
        self.listen();
        self.fence(FencePosition::Start, &mut recorder)?;
        self.scan(SnapshotReason::Start, &mut recorder)?;
        self.start = self.now;
        let mut running = vec![None; self.options.cpus as usize];
        while self.left > 0 {
            let cpu = self.random.rand_range(0..self.options.cpus);
            self.kernel.run_on(Cpu(cpu));
            let actor = running[cpu as usize].take().unwrap_or_else(|| self.pick());
            self.pace();
            if self.step(actor, &mut recorder)? && !self.chance(4) {
                running[cpu as usize] = Some(actor);
            } else {
                self.put_back(actor);
            }
            if recorder.is_scan_due(self.now) {
                self.scan(SnapshotReason::Loss, &mut recorder)?;
            }
        }
        self.fence(FencePosition::End, &mut recorder)?;
        recorder.finish(self.now)
    }

    /// Takes what the kernel says of the last verb, which was one of `actor`.
    #[inline]
    pub(super) fn hear<E, F: FnMut(&Record<'static>) -> Result<(), E>>(
        &mut self,
        actor: Handle,
        recorder: &mut Recorder<F>,
    ) -> Result<(), E> {
        let mut others = self.actors.get(actor).map_or(0, |actor| actor.threads.len() as u32);
        // Threads still running, once one has exited.
        let mut left = None;
        // CPU time and peak memory of the exited threads.
        let mut whole = (0, 0);
        while let Ok(Received::Datagrams(1..)) = self.socket.receive(&mut self.batch) {
            for at in 0..self.batch.len() {
                let frame = self.batch.datagrams_from(at).next();
                let event = frame.and_then(|frame| Event::decode(frame.bytes, ByteOrder::NATIVE).ok());
                let Some(event) = event else { continue };
                self.now = event.time;
                self.left = self.left.saturating_sub(1);
                self.due += 1_000_000_000;
                let is_lost = self.bursts.takes();
                if is_lost {
                    recorder.drop();
                }
                match event.body {
                    EventBody::Exit { task, code, .. } => {
                        let left = left.get_or_insert(others + 1);
                        *left = left.saturating_sub(1);
                        let process = match *left {
                            0 => ProcessState::Ended { status: code },
                            _ => ProcessState::Alive,
                        };
                        let usage = (!is_lost).then(|| {
                            let mut usage = self.usage(actor, task, others, process);
                            // The last thread's exit carries the totals of all threads.
                            whole.0 += usage.cpu_us;
                            whole.1 = whole.1.max(usage.max_rss_kib);
                            if *left == 0 {
                                (usage.process_cpu_us, usage.max_rss_kib) = whole;
                            }
                            usage
                        });
                        others = others.saturating_sub(1);
                        if !is_lost {
                            recorder.event(event, usage)?;
                        }
                    }
                    _ if is_lost => {}
                    EventBody::Exec { task } => {
                        recorder.event(event, None)?;
                        let subject = DetailsSubject::Exec { tgid: task.tgid, time: event.time };
                        self.describe(actor, subject, recorder)?;
                    }
                    _ => recorder.event(event, None)?,
                }
            }
            self.batch.clear();
        }
        Ok(())
    }

    /// With a chance of one in `of`.
    pub(super) fn chance(&mut self, of: u32) -> bool {
        self.random.rand_u32().is_multiple_of(of)
    }

    pub(super) fn between(&mut self, (least, most): (u32, u32)) -> u32 {
        if least == most { least } else { self.random.rand_range(least..most + 1) }
    }

    pub(super) fn one_of<T>(&mut self, of: &'static [T]) -> &'static T {
        &of[self.random.rand_range(0..of.len() as u32) as usize]
    }

    /// How long the next events take, each, so that they come at the rate that is wanted.
    fn pace(&mut self) {
        let due = self.start.0 + (self.due / u128::from(self.options.rate)) as u64;
        let mean = (due + 1_000_000_000 / u64::from(self.options.rate)).saturating_sub(self.now.0).max(1);
        let random = u128::from(self.random.rand_u32());
        let pace = 1 + ((random * u128::from(2 * mean - 1)) >> 32) as u64;
        self.kernel.set_time_per_event(Duration::from_nanos(pace));
    }

    fn usage(&mut self, actor: Handle, task: Task, threads: u32, process: ProcessState) -> Usage {
        let actor = self.actors.get(actor);
        let started = actor.map_or(MonoNs(0), |actor| {
            let thread = actor.threads.iter().find(|&&(tid, _)| tid == task.tid);
            thread.map_or(actor.started, |&(_, started)| started)
        });
        facts::usage(&mut self.random, (started, self.now), task.is_leader(), threads, process)
    }

    fn describe<E, F: FnMut(&Record<'static>) -> Result<(), E>>(
        &mut self,
        actor: Handle,
        subject: DetailsSubject,
        recorder: &mut Recorder<F>,
    ) -> Result<(), E> {
        let Some(actor) = self.actors.get(actor) else { return Ok(()) };
        let Some(process) = self.kernel.process(actor.task.tgid) else { return Ok(()) };
        let parent_started = self.actors.get(actor.parent).map_or(MonoNs(0), |parent| parent.started);
        let mut details = self.spare.take().unwrap_or_else(facts::blank);
        facts::describe(&mut details, subject, (actor, process), parent_started);
        self.spare = recorder.details(details)?;
        Ok(())
    }

    /// All processes, as they are at this moment.
    fn scan<E, F: FnMut(&Record<'static>) -> Result<(), E>>(
        &mut self,
        reason: SnapshotReason,
        recorder: &mut Recorder<F>,
    ) -> Result<(), E> {
        let mut spare = self.spare.take().unwrap_or_else(facts::blank);
        let mut actors: Vec<_> = self.actors.iter().collect();
        actors.sort_unstable_by_key(|actor| actor.task.tgid);
        let mut processes = 0;
        for actor in actors {
            let tgid = actor.task.tgid;
            let Some(process) = self.kernel.process(tgid) else { continue };
            facts::describe(&mut spare, DetailsSubject::Snapshot { tgid }, (actor, process), MonoNs(0));
            spare = recorder.details(spare)?.unwrap_or_else(facts::blank);
            processes += 1;
        }
        self.spare = Some(spare);
        let now = self.now;
        let snapshot = Snapshot { started: now, ended: now, processes, reason, atomic: true };
        recorder.record(&Record::Snapshot(snapshot))
    }

    /// The recorder's thread says something on each CPU.
    fn fence<E, F: FnMut(&Record<'static>) -> Result<(), E>>(
        &mut self,
        position: FencePosition,
        recorder: &mut Recorder<F>,
    ) -> Result<(), E> {
        self.kernel.set_time_per_event(Duration::from_micros(20));
        for cpu in 0..self.options.cpus {
            self.kernel.run_on(Cpu(cpu));
            self.kernel.rename(self.pulse, SelfGenerated::Fence.comm());
            if let Ok(Received::Datagrams(1..)) = self.socket.receive(&mut self.batch) {
                let events = self.batch.datagrams();
                for event in events.filter_map(|frame| Event::decode(frame.bytes, ByteOrder::NATIVE).ok()) {
                    self.now = event.time;
                    recorder.event(event, None)?;
                }
                self.batch.clear();
            }
        }
        recorder.fence(self.now, position)
    }

    /// The recorder listens. What acknowledges that is before the first event.
    fn listen(&mut self) {
        // A socket with all privileges, which nobody else has bound, refuses none of this.
        let _ = self.socket.force_rcvbuf(SOCKET);
        let _ = self.socket.listen();
        let _ = self.socket.receive(&mut self.batch);
        self.batch.clear();
    }

    /// Init, the recorder, and the services with their workers.
    fn start_up(&mut self) {
        let init = Task::new(1, 1);
        self.kernel.exec(init, INIT.program.path, INIT.program.args);
        let recorder = self.start_service(&RECORDER, None);
        self.recorder = self.actors.get(recorder).map_or(init, |actor| actor.task);
        self.pulse = self.kernel.clone_thread(self.recorder);
        let started = self.kernel.now();
        if let Some(actor) = self.actors.get_mut(recorder) {
            actor.threads.push((self.pulse.tid, started));
        }
        let all = self.options.profile.services();
        for service in all {
            let service = self.start_service(service, None);
            if let Some(actor) = self.actors.get_mut(service) {
                actor.is_service = true;
            }
            self.services.push(service);
        }
        // A third of those that may live are workers, which are there before, and stay.
        let workers = (self.options.processes as usize / 3).saturating_sub(self.actors.living());
        for n in 0..workers {
            let service = self.services[n % all.len()];
            self.start_service(all[n % all.len()], Some(service));
        }
        let uptime = UPTIME.as_nanos() as u64 + u64::from(self.random.rand_u32());
        self.kernel.advance(Duration::from_nanos(uptime.saturating_sub(self.kernel.now().0)));
        self.now = self.kernel.now();
    }

    /// A service, or a worker of one, which runs what it does.
    fn start_service(&mut self, service: &'static Service, of: Option<Handle>) -> Handle {
        let parent = of.unwrap_or(self.init);
        let task = self.actors.get(parent).map_or(Task::new(1, 1), |actor| actor.task);
        let later = Duration::from_micros(self.between((100, 9_000)).into());
        self.kernel.advance(later);
        let task = self.kernel.fork(task);
        let actor = self.actors.begin(task, self.kernel.now(), Some(parent), service, &service.program);
        if of.is_none() {
            self.kernel.setsid(task);
            self.run_program(task, &service.program, 0);
        }
        self.kernel.setgid(task, service.uid, service.uid);
        self.kernel.setuid(task, service.uid, service.uid);
        actor
    }

    /// `execve`, with `number` in place of each `#`.
    pub(super) fn run_program(&mut self, task: Task, program: &Program, number: u32) {
        self.args.clear();
        for part in program.args.iter().flat_map(|arg| [arg, "\0"]) {
            match part.split_once('#') {
                Some((before, behind)) => {
                    // A string has room.
                    let _ = write!(self.args, "{before}{number}{behind}");
                }
                None => self.args.push_str(part),
            }
        }
        let args: Vec<_> = self.args.split_terminator('\0').collect();
        self.kernel.exec(task, program.path, &args);
    }

    /// The kernel has counted the events of each CPU since long before; of some, it is about to begin anew.
    fn number_cpus(&mut self) {
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
