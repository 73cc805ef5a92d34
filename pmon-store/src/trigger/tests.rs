use pmon_core::capture::{ClockAnchor, Credentials, MissReason, ProcessState, RecordedDatagram, Usage};
use pmon_core::wire::{ByteOrder, Comm};
use pmon_core::{Cpu, Seq, Task};

use super::*;

/// A recording with triggers.
struct Recording {
    model: ProcessModel,
    triggers: Triggers,
    handle: TriggersHandle,
    requests: Receiver<TriggerFired>,
}

const RECORDER: Tgid = Tgid(99);

#[derive(serde::Deserialize)]
struct File {
    trigger: Vec<Trigger>,
}

fn triggers(text: &str) -> Vec<Trigger> {
    toml::from_str::<File>(text).unwrap().trigger
}

/// Creates a trigger named `t` with these keys, whose clips end with the event unless the keys say
/// otherwise, so that each firing requests one.
fn with(keys: &str) -> Vec<Trigger> {
    let after = if keys.contains("after") { "" } else { "after = '0s'\n" };
    triggers(&format!("[[trigger]]\nname = 't'\nlimit = '1000/h'\n{after}{keys}"))
}

impl Recording {
    fn new(active: Vec<Trigger>) -> Self {
        let model = ProcessModel::new(ByteOrder::Little, 100, ClockAnchor::default());
        let (triggers, handle, requests) = Triggers::new(active, Some(RECORDER), || ());
        Self { model, triggers, handle, requests }
    }

    fn record(&mut self, record: &Record<'_>) {
        let is_exit = matches!(record, Record::Event(RecordedDatagram::Event(event), _)
            if matches!(event.body, EventBody::Exit { .. }));
        let is_observed = self.triggers.is_interested();
        if is_observed && is_exit {
            self.triggers.observe(record, &self.model);
        }
        self.model.apply(record);
        if is_observed && !is_exit {
            self.triggers.observe(record, &self.model);
        }
    }

    fn event(&mut self, ms: u64, body: EventBody, usage: Option<Usage>) {
        let event = Event { time: MonoNs(ms * 1_000_000), seq: Seq(0), cpu: Cpu(0), body };
        self.record(&Record::Event(RecordedDatagram::Event(event), usage.map(Box::new)));
    }

    fn fork(&mut self, ms: u64, parent: u32, child: u32) {
        self.event(
            ms,
            EventBody::Fork { parent: Task::new(parent, parent), child: Task::new(child, child) },
            None,
        );
    }

    fn thread(&mut self, ms: u64, pid: u32, tid: u32) {
        self.event(ms, EventBody::Fork { parent: Task::new(1, 1), child: Task::new(tid, pid) }, None);
    }

    /// A process executes `/usr/sbin/nginx` as user 33.
    fn exec(&mut self, ms: u64, pid: u32, args: &[u8]) {
        self.event(ms, EventBody::Exec { task: Task::new(pid, pid) }, None);
        self.exec_details(ms, pid, args);
    }

    fn exec_details(&mut self, ms: u64, pid: u32, args: &[u8]) {
        let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(ms * 1_000_000) };
        self.record(&Record::Details(Box::new(Details {
            miss: None,
            ppid: Some(1),
            ids: Some(Credentials { uid: 33, euid: 33, gid: 1, egid: 1 }),
            comm: Some(b"nginx".to_vec()),
            exe: Some(b"/usr/sbin/nginx".to_vec()),
            cgroup: Some(b"0::/system.slice/nginx.service".to_vec()),
            args: Some(args.to_vec()),
            ..Details::missed(subject, MissReason::Gone)
        })));
    }

    fn exit(&mut self, ms: u64, task: (u32, u32), code: u32, state: ProcessState) {
        let has_state = state != ProcessState::Unknown;
        let usage = has_state.then(|| Usage { process: state, ..Usage::default() });
        let body = EventBody::Exit { task: Task::new(task.0, task.1), code, signal: 17, parent: None };
        self.event(ms, body, usage);
    }

    /// Returns the times of the requests, in ms.
    fn fired(&self) -> Vec<u64> {
        self.requests.try_iter().map(|request| request.at.0 / 1_000_000).collect()
    }
}

fn ended(status: u32) -> ProcessState {
    ProcessState::Ended { status }
}

/// Records a life of nginx: it forks at 10 ms, execs at 20 ms, and dies of SIGSEGV at 5,000 ms.
fn crash(active: Vec<Trigger>) -> Vec<u64> {
    let mut recording = Recording::new(active);
    recording.fork(10, 1, 50);
    recording.exec(20, 50, b"nginx\0-c\0a.conf\0");
    recording.exit(5_000, (50, 50), 11 | 0x80, ended(11 | 0x80));
    recording.fired()
}

#[test]
fn each_key_selects_events() {
    for (keys, fired) in [
        ("kind = 'exit'", &[5_000][..]),
        ("kind = ['fork', 'exit']", &[10, 5_000]),
        ("kind = 'exec'", &[20]),
        ("signal = ['SIGSEGV', 'SIGABRT']", &[5_000]),
        ("signal = 'TERM'", &[]),
        ("signal = 11", &[5_000]),
        ("exit_code = 11", &[]),
        ("longer_than = '4990ms'", &[5_000]),
        ("longer_than = '4991ms'", &[]),
        ("comm = 'nginx'", &[20, 5_000]),
        ("comm = 'ngin'", &[]),
        ("exe = '/usr/sbin/*'", &[20, 5_000]),
        ("exe = 'apache'\nkind = 'exec'", &[]),
        ("args = '^nginx -c [a-z.]+$'\nkind = 'exec'", &[20]),
        ("uid = [5, 33]", &[20, 5_000]),
        ("uid = 0", &[]),
        ("cgroup = '/system.slice'", &[20, 5_000]),
        ("cgroup = '/user.slice'", &[]),
        ("kind = 'exit'\nsignal = 'SEGV'\ncomm = 'nginx'\nuid = 33\nargs = 'conf'", &[5_000]),
        ("kind = 'exit'\nsignal = 'SEGV'\ncomm = 'nginx'\nuid = 34", &[]),
    ] {
        assert_eq!(crash(with(keys)), fired, "{keys}");
    }
}

#[test]
fn a_request_describes_the_trigger_and_the_process() {
    let mut recording = Recording::new(with("signal = 'KILL'\nbefore = '1m'\nafter = '5s'"));
    recording.fork(10, 7, 50);
    recording.exec(20, 50, b"nginx\0");
    recording.exit(30, (50, 50), 9, ended(9));
    let expected = TriggerFired {
        name: ClipName::new("t").unwrap(),
        at: MonoNs(30_000_000),
        before: Duration::from_secs(60),
        after: Duration::from_secs(5),
        is_extension: false,
        process: Some(ProcessSummary {
            pid: Tgid(50),
            ppid: Some(Tgid(1)),
            comm: Some(b"nginx".to_vec()),
            exe: Some(b"/usr/sbin/nginx".to_vec()),
            status: Some(9),
        }),
    };
    assert_eq!(recording.requests.try_recv(), Ok(expected));
}

#[test]
fn the_status_of_the_process_counts_and_not_that_of_a_thread() {
    let mut recording = Recording::new(with("exit_code = 3"));
    recording.fork(10, 1, 50);
    recording.thread(11, 50, 51);
    recording.exit(20, (50, 50), 3 << 8, ProcessState::Alive);
    assert!(recording.fired().is_empty(), "a thread remains");
    recording.exit(30, (51, 50), 0, ended(3 << 8));
    assert_eq!(recording.fired(), [30]);
    // Without the state of the process, the last known thread decides.
    recording.fork(40, 1, 60);
    recording.thread(41, 60, 61);
    recording.exit(50, (60, 60), 0, ProcessState::Unknown);
    recording.exit(60, (61, 60), 3 << 8, ProcessState::Unknown);
    assert_eq!(recording.fired(), [60]);
}

#[test]
fn forks_and_exits_of_threads_fire_no_trigger() {
    let mut recording = Recording::new(with("kind = ['fork', 'exit']"));
    recording.fork(10, 1, 50);
    recording.thread(11, 50, 51);
    recording.exit(12, (51, 50), 0, ProcessState::Alive);
    assert_eq!(recording.fired(), [10]);
}

#[test]
fn an_exec_fires_once_its_details_have_arrived() {
    let mut recording = Recording::new(with("kind = 'exec'\nargs = 'needle'"));
    recording.fork(10, 1, 50);
    recording.event(20, EventBody::Exec { task: Task::new(50, 50) }, None);
    recording.exit(30, (50, 50), 0, ended(0));
    recording.fork(40, 1, 60);
    assert!(recording.fired().is_empty());
    recording.exec_details(20, 50, b"a\0needle\0");
    assert_eq!(recording.fired(), [20]);
}

#[test]
fn a_rate_fires_when_so_many_events_are_within_the_window() {
    let mut recording = Recording::new(with("kind = 'fork'\ncount = 5\nwithin = '100ms'"));
    // Four forks per 100 ms are too few.
    (0..40).for_each(|n| recording.fork(n * 25, 1, 100 + n as u32));
    assert!(recording.fired().is_empty());
    // A storm fires at each fifth fork.
    (0..12).for_each(|n| recording.fork(2_000 + n, 1, 200 + n as u32));
    assert_eq!(recording.fired(), [2_004, 2_009]);
}

#[test]
fn a_limit_counts_clips_and_not_the_firings_that_they_contain() {
    let text = "[[trigger]]\nname = 'a'\nkind = 'fork'\nlimit = '2/1m'\nbefore = '1s'\nafter = '100ms'";
    let mut recording = Recording::new(triggers(text));
    for (n, ms) in [1_000, 1_001, 1_090, 1_200, 2_000, 2_050, 3_000, 62_000].into_iter().enumerate() {
        recording.fork(ms, 1, 100 + n as u32);
    }
    // Each extension ends 100 ms later than its firing needs: at 1,201, 1,400 and 2,250 ms.
    let requests: Vec<_> = recording
        .requests
        .try_iter()
        .map(|fired| (fired.at.0 / 1_000_000, fired.after.as_millis(), fired.is_extension))
        .collect();
    let expected = [
        (1_000, 100, false),
        (1_001, 200, true),
        (1_200, 200, true),
        (2_000, 100, false),
        (2_050, 200, true),
        (62_000, 100, false),
    ];
    assert_eq!(requests, expected);
    let counts = TriggerCounts { name: "a".into(), fired: 3, merged: 4, suppressed: 1, dropped: 0 };
    assert_eq!(recording.handle.counts(), [counts]);
}

#[test]
fn requests_that_the_clip_service_does_not_take_are_dropped_and_counted() {
    let mut recording = Recording::new(with("kind = 'fork'"));
    (0..100).for_each(|n| recording.fork(n, 1, 100 + n as u32));
    assert_eq!(recording.fired().len(), MAX_WAITING);
    assert_eq!(recording.handle.counts()[0].dropped, 100 - MAX_WAITING as u64);
    drop(std::mem::replace(&mut recording.requests, sync_channel(0).1));
    recording.fork(200, 1, 300);
    assert_eq!(recording.handle.counts()[0].dropped, 101 - MAX_WAITING as u64);
}

#[test]
fn a_dropped_request_neither_uses_the_limit_nor_hides_the_next_firing() {
    let once = triggers(
        "[[trigger]]\nname = 'a'\nkind = 'exit'\nlimit = '1/h'\n\
         [[trigger]]\nname = 'b'\nkind = 'fork'\nafter = '0s'\nlimit = '1000/h'",
    );
    let mut recording = Recording::new(once);
    (0..100).for_each(|n| recording.fork(n, 1, 100 + n as u32));
    recording.exit(100, (100, 100), 0, ended(0));
    assert_eq!(recording.fired().len(), MAX_WAITING);
    recording.exit(101, (101, 101), 0, ended(0));
    assert_eq!(recording.fired(), [101]);
    let counts = TriggerCounts { name: "a".into(), fired: 1, merged: 0, suppressed: 0, dropped: 1 };
    assert_eq!(recording.handle.counts()[0], counts);
}

#[test]
fn a_request_that_is_refused_later_gives_its_place_in_the_limit_back() {
    let once = "[[trigger]]\nname = 'a'\nkind = 'fork'\nafter = '0s'\nbefore = '1ms'\nlimit = '1/h'\n";
    let mut recording = Recording::new(triggers(once));
    recording.fork(10, 1, 50);
    recording.fork(20, 1, 51);
    assert_eq!(recording.fired(), [10], "the limit is used up");
    let refuse =
        |name, ms: u64| recording.handle.refuse(ClipName::new(name).unwrap(), MonoNs(ms * 1_000_000));
    [("b", 10), ("a", 11), ("a", 10)].into_iter().for_each(|(name, ms)| refuse(name, ms));
    recording.fork(30, 1, 52);
    recording.fork(40, 1, 53);
    assert_eq!(recording.fired(), [30]);
    let counts = TriggerCounts { name: "a".into(), fired: 1, merged: 0, suppressed: 2, dropped: 1 };
    assert_eq!(recording.handle.counts(), [counts]);
}

#[test]
fn a_reload_replaces_triggers_and_keeps_the_use_of_limits() {
    let once = |kind| format!("[[trigger]]\nname = 'a'\nkind = '{kind}'\nafter = '0s'\nlimit = '1/h'\n");
    let mut recording = Recording::new(triggers(&once("fork")));
    recording.fork(10, 1, 50);
    assert_eq!(recording.fired(), [10]);
    let other = "[[trigger]]\nname = 'b'\nkind = 'exit'\n";
    recording.handle.replace(triggers(&format!("{other}{}", once("exit"))));
    recording.fork(20, 1, 60);
    recording.exit(30, (60, 60), 0, ended(0));
    let fired: Vec<_> = recording.requests.try_iter().map(|request| (request.name, request.at.0)).collect();
    assert_eq!(fired, [(ClipName::new("b").unwrap(), 30_000_000)], "the limit of a is used up");
    let counts = recording.handle.counts();
    assert_eq!((counts[1].fired, counts[1].suppressed), (1, 1));
    recording.handle.replace(Vec::new());
    recording.exit(40, (50, 50), 0, ended(0));
    assert!(recording.fired().is_empty() && recording.handle.counts().is_empty());
}

#[test]
fn self_generated_events_fire_no_trigger() {
    let mut recording = Recording::new(with("kind = 'comm'"));
    let mut comm = Comm::default();
    let name = SelfGenerated::Heartbeat.comm().as_bytes();
    comm.0[..name.len()].copy_from_slice(name);
    recording.event(10, EventBody::Comm { task: Task::new(100, RECORDER.0), comm }, None);
    assert!(recording.fired().is_empty());
    recording.event(20, EventBody::Comm { task: Task::new(50, 50), comm }, None);
    assert_eq!(recording.fired(), [20]);
}

#[test]
fn huge_arguments_are_searched_in_bounded_time() {
    let mut recording = Recording::new(with("kind = 'exec'\nargs = '(a|aa)+(b|bb)+c$'"));
    let mut args = vec![b'a'; 1 << 20];
    args.push(0);
    let start = std::time::Instant::now();
    recording.fork(1, 1, 50);
    (0..10).for_each(|n| recording.exec(10 + n, 50, &args));
    assert!(recording.fired().is_empty());
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}
