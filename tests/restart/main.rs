//! Recorders that continue each other on the running kernel, with the descriptors that a service
//! manager keeps or that the process keeps across an exec.
//!
//! `cargo test --test restart`. An observer with a buffer for everything knows each event that the
//! kernel emitted, by its CPU and number.
#![allow(clippy::print_stderr, reason = "some tests print what they measured")]

#[path = "../blind/attacker.rs"]
mod attacker;
mod generations;
mod load;
mod manager;
#[path = "../conservation/observer.rs"]
mod observer;
mod systemd;

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::{Duration, Instant};

use pmon_core::MonoNs;
use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::wire::{Event, EventBody};
use pmon_testkit::guard::Need;
use pmon_testkit::live::{live_test_with, wait_until};
use pmon_testkit::programs;
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

use attacker::{Attacker, rename};
use generations::Generations;
use load::ForkLoad;
use manager::{Manager, sleep_until};
use observer::Observer;
use systemd::Systemd;

const NEEDS: [Need<'static>; 3] = [
    Need::Root,
    Need::Recording(&[]),
    Need::Command("shells with long numbers of descriptors", &["bash", "-c", "true 100<&-"]),
];

/// Number of restarts under load.
const RESTARTS: usize = 20;

/// Starts the first recorder, and an observer of the same events.
#[track_caller]
fn begin(directory: &tempfile::TempDir, arguments: &[&str]) -> (Manager, Observer) {
    let mut manager = Manager::new(directory.path(), arguments);
    assert_eq!(manager.start(), "begins: no descriptors");
    (manager, Observer::new().expect("root can observe all events"))
}

/// Reads what the recorders wrote, of which there were `count`. Fails the test unless they recorded
/// every event.
#[track_caller]
fn check_complete(
    directory: &tempfile::TempDir,
    count: usize,
    load: &load::LoadReport,
    observer: Observer,
) -> Generations {
    let generations = Generations::read(directory.path());
    assert_eq!(generations.lost(), vec![LossByCause::default(); count]);
    assert_eq!(load.recorded(generations.events()), load.emitted);
    check_numbers(&generations, observer);
    generations
}

/// Fails the test unless each number that the observer received is recorded or lost once.
#[track_caller]
fn check_numbers(generations: &Generations, observer: Observer) {
    generations.check_numbers();
    generations.compare(&observer.received());
}

/// Restarts a recorder under load, with these signals in turn.
#[track_caller]
fn restart(signals: &[Signal], directory: &tempfile::TempDir) -> (load::LoadReport, Observer) {
    let (mut manager, observer) = begin(directory, &[]);
    let load = ForkLoad::start();
    for signal in signals.iter().cycle().take(RESTARTS) {
        sleep_until(Instant::now() + Duration::from_millis(150));
        manager.end(*signal);
        assert_eq!(manager.start(), "continues");
    }
    let load = load.finish();
    manager.end(Signal::TERM);
    (load, observer)
}

#[test]
fn restarts_with_kept_descriptors_lose_nothing() {
    let Some((directory, _guard)) = live_test_with(&NEEDS) else { return };
    let (load, observer) = restart(&[Signal::TERM], &directory);
    check_complete(&directory, RESTARTS + 1, &load, observer).print_times();
}

#[test]
fn a_killed_recorder_loses_only_what_it_had_received_and_not_written() {
    let Some((directory, _guard)) = live_test_with(&NEEDS) else { return };
    let (load, observer) = restart(&[Signal::KILL, Signal::TERM], &directory);
    let generations = Generations::read(directory.path());
    generations.print_times();
    let lost = generations.lost();
    // Each odd capture continues one whose recorder was killed.
    let (by_kill, others): (Vec<_>, Vec<_>) = (0..).zip(&lost).partition(|(index, _)| index % 2 == 1);
    let by_kill: Vec<_> = by_kill.iter().map(|(_, lost)| lost.of(LossCause::Restart)).collect();
    eprintln!("lost by each kill: {by_kill:?}");
    assert!(others.iter().all(|(_, lost)| lost.total() == 0), "{lost:?}");
    let all: u64 = lost.iter().map(LossByCause::total).sum();
    assert_eq!(all, by_kill.iter().sum::<u64>(), "{lost:?}");
    // The drain thread hands its events over every 60 ms, and the file has them 100 ms later.
    assert!(by_kill.iter().all(|lost| *lost < 20_000), "{by_kill:?}");
    check_numbers(&generations, observer);
    assert!(load.recorded(generations.events()) + all >= load.emitted);
}

#[test]
fn the_events_of_a_long_absence_are_counted() {
    let Some((directory, _guard)) = live_test_with(&NEEDS) else { return };
    // A ring for 481 pairs of fork and exit, of 88 and 184 bytes, and a queue for 1,260 events.
    let (mut manager, observer) = begin(&directory, &["65536", "1048576"]);
    manager.end(Signal::TERM);
    let load = ForkLoad::burst(4000);
    assert_eq!(manager.start(), "continues");
    manager.end(Signal::TERM);
    let generations = Generations::read(directory.path());
    let [before, lost] = generations.lost()[..] else { panic!("two captures") };
    assert_eq!((before.total(), lost.total()), (0, lost.of(LossCause::Socket)), "{lost:?}");
    let (recorded, lost) = (load.recorded(generations.events()), lost.total());
    eprintln!("{recorded} of {} events waited, {lost} are lost", load.emitted);
    assert!(recorded >= 1400, "the ring and the queue hold {recorded} events");
    assert!(recorded + lost >= load.emitted && recorded < load.emitted);
    check_numbers(&generations, observer);
}

#[test]
fn a_recorder_without_a_ring_continues_with_the_sockets_queue() {
    let Some((directory, _guard)) = live_test_with(&NEEDS) else { return };
    let (mut manager, observer) = begin(&directory, &["16777216", "67108864", "recvmmsg"]);
    manager.end(Signal::TERM);
    let load = ForkLoad::burst(1000);
    assert_eq!(manager.start(), "continues");
    manager.end(Signal::TERM);
    check_complete(&directory, 2, &load, observer);
}

#[test]
fn a_program_replaces_itself_without_a_gap() {
    let Some((directory, _guard)) = live_test_with(&NEEDS) else { return };
    let programs = tempfile::tempdir().unwrap();
    let mut manager = Manager::new(directory.path(), &[]);
    let program = programs.path().join("recorder");
    manager.copy_program(&program);
    assert_eq!(manager.start(), "begins: no descriptors");
    let id = manager.service_id();
    let observer = Observer::new().expect("root can observe all events");
    let load = ForkLoad::start();
    for _ in 0..5 {
        // An upgrade puts another file at the path.
        let newer = programs.path().join("newer");
        fs::copy(&program, &newer).unwrap();
        fs::rename(&newer, &program).unwrap();
        sleep_until(Instant::now() + Duration::from_millis(100));
        manager.signal(Signal::USR1);
        assert_eq!(manager.wait_until_ready(), "continues");
        assert_eq!(manager.service_id(), id);
    }
    let executable = fs::read_link(format!("/proc/{id}/exe")).unwrap();
    assert_eq!(executable, program, "the new file runs");
    // Without a program, the recorder continues by itself.
    fs::rename(&program, programs.path().join("old")).unwrap();
    manager.signal(Signal::USR1);
    let message = manager.receive(Duration::from_secs(10)).unwrap();
    assert!(message.starts_with("STATUS=not replaced: No such file"), "{message}");
    assert_eq!(manager.wait_until_ready(), "continues");
    let load = load.finish();
    manager.end(Signal::TERM);
    check_complete(&directory, 7, &load, observer).print_times();
}

/// Changes the descriptors after the recorder has ended. Fails the test unless the next one refuses
/// them, for a reason that contains `why`.
#[track_caller]
fn refuse(manager: &mut Manager, change: impl FnOnce(&mut Manager), why: &str) {
    manager.end(Signal::TERM);
    change(manager);
    let status = manager.start();
    assert!(status.starts_with("begins: cannot continue") && status.contains(why), "{status}: {why}");
}

#[test]
fn descriptors_of_another_layout_or_that_do_not_belong_together_are_refused() {
    let Some((directory, _guard)) = live_test_with(&NEEDS) else { return };
    let mut manager = Manager::new(directory.path(), &[]);
    assert_eq!(manager.start(), "begins: no descriptors");
    refuse(
        &mut manager,
        |manager| manager.set_arguments(&["8192"]),
        "the size of the ring was `16777216` and is `8192` now",
    );
    refuse(&mut manager, |manager| manager.set_arguments(&[]), "the size of the ring was `8192`");
    refuse(&mut manager, |manager| manager.swap("pmon.ring", "pmon.counts"), "pmon.ring is map_type 6");
    refuse(&mut manager, |manager| manager.swap("pmon.asleep", "pmon.round"), "pmon.asleep is map_type 2");
    refuse(&mut manager, |manager| manager.swap("pmon.socket", "pmon.state"), "");
    let garbage = || -> OwnedFd { File::open("/dev/null").unwrap().into() };
    for name in
        ["pmon.socket", "pmon.ring", "pmon.asleep", "pmon.counts", "pmon.round", "pmon.peaks", "pmon.state"]
    {
        refuse(&mut manager, |manager| manager.replace(name, Some(garbage())), name);
        refuse(&mut manager, |manager| manager.replace(name, None), name);
    }
    // A service manager that keeps every set: the newest complete one counts.
    let older: Vec<_> =
        manager.kept.iter().map(|(name, fd)| (name.clone(), fd.try_clone().unwrap())).collect();
    manager.end(Signal::TERM);
    manager.replace("pmon.state", None);
    assert!(manager.start().contains("pmon.state"));
    manager.kept.splice(0..0, older);
    manager.end(Signal::TERM);
    assert_eq!(manager.start(), "continues");
    manager.kept.drain(..7);
    // A socket of the same kind that has another filter, or none.
    refuse(
        &mut manager,
        |manager| manager.replace("pmon.socket", Some(load::connector_socket())),
        "pmon.socket is a proc",
    );
    manager.end(Signal::TERM);
    assert_eq!(manager.start(), "continues", "new descriptors replaced the refused ones");
}

#[test]
fn a_kernel_that_stops_its_events_while_no_recorder_runs_is_noticed_by_the_next_one() {
    let Some((directory, _guard)) = live_test_with(&NEEDS) else { return };
    let mut manager = Manager::new(directory.path(), &[]);
    assert_eq!(manager.start(), "begins: no descriptors");
    manager.end(Signal::TERM);
    let mut attacker = Attacker::new();
    let Some(hidden) = attacker.silence(20) else { return };
    let silent_since = clock_gettime(ClockId::Monotonic);
    let silent_since = MonoNs((silent_since.tv_sec * 1_000_000_000 + silent_since.tv_nsec) as u64);
    assert_eq!(manager.start(), "continues");
    wait_until(|| attacker.probe_events().is_none());
    rename("after");
    manager.end(Signal::TERM);
    let generations = Generations::read(directory.path());
    let [before, after] = generations.captures() else { panic!("two captures") };
    assert!(before.blind.is_empty());
    // Forks can show a part of the time before the missing heartbeat does.
    let mut blind = after.blind.clone();
    blind.sort_by_key(|blind| blind.from);
    assert!(blind.windows(2).all(|pair| pair[0].until == pair[1].from), "{blind:?}");
    assert!(blind.first().is_some_and(|first| first.from <= silent_since), "{silent_since}: {blind:?}");
    let named = |name: &str| {
        let has_name = |event: &&Event| matches!(event.body, EventBody::Comm { comm, .. } if comm.as_bytes() == name.as_bytes());
        generations.events().find(has_name)
    };
    assert!(named(&hidden).is_none());
    let until = blind.last().map(|last| last.until);
    assert!(named("after").is_some_and(|after| Some(after.time) >= until), "{blind:?}");
}

/// Returns the exit code and the output of `pmon verify` of a store.
fn verify(directory: &std::path::Path) -> (Option<i32>, String) {
    let output = Command::new(programs::pmon()).arg("verify").arg(directory).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_store_is_complete_across_restarts_with_kept_descriptors() {
    let Some((directory, _guard)) = live_test_with(&NEEDS) else { return };
    let store = directory.path().join("store");
    let mut manager = Manager::of_store(&store);
    assert!(manager.start().starts_with("recording to"));
    let load = ForkLoad::start();
    for _ in 0..5 {
        sleep_until(Instant::now() + Duration::from_millis(150));
        manager.end(Signal::TERM);
        assert!(manager.start().starts_with("continuing"));
    }
    load.finish();
    manager.end(Signal::TERM);
    let (code, text) = verify(&store);
    assert!(code == Some(0) && text.contains("complete"), "{code:?} {text}");
    eprintln!("{text}");
}

#[test]
fn a_flight_recorder_refuses_kept_descriptors_and_keeps_none() {
    let Some((directory, _guard)) = live_test_with(&NEEDS) else { return };
    let log = directory.path().join("log");
    let mut manager = Manager::of_store(&directory.path().join("store"));
    assert!(manager.start().starts_with("recording to"));
    manager.end(Signal::TERM);
    assert!(!manager.kept.is_empty());
    manager.set_arguments(&["--flight", "1m"]);
    manager.log_to(&log);
    assert!(manager.start().starts_with("keeping the last 1m"));
    manager.end(Signal::TERM);
    let messages = fs::read_to_string(&log).unwrap();
    assert!(messages.contains("a flight recorder begins with an empty memory"), "{messages}");
    let names: Vec<_> = manager.kept.iter().map(|(name, _)| name).collect();
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn systemd_keeps_the_descriptors_of_a_stores_recorder() {
    let Some((directory, _guard)) = live_test_with(&[&NEEDS[..], &[systemd::NEED]].concat()) else { return };
    let (store, runtime) = (directory.path().join("store"), directory.path().join("runtime"));
    let systemd = Systemd::start(&runtime, &store);
    assert_eq!(systemd.property("NFileDescriptorStore"), "8");
    let load = ForkLoad::start();
    for _ in 0..3 {
        sleep_until(Instant::now() + Duration::from_millis(150));
        systemd.run("restart");
        let status = systemd.property("StatusText");
        assert!(status.starts_with("continuing"), "{status}");
    }
    let load = load.finish();
    systemd.run("stop");
    let (code, text) = verify(&store);
    assert!(code == Some(0) && text.contains("complete"), "{code:?} {text}");
    assert_eq!(load.recorded(Generations::read(&store).events()), load.emitted);

    // After a stop, the next recorder begins a new observation, and continues it after a kill.
    systemd.run("start");
    let status = systemd.property("StatusText");
    assert!(status.starts_with("recording"), "{status}");
    // A recorder that is killed before its first fence is in the file cannot be continued.
    sleep_until(Instant::now() + Duration::from_secs(1));
    systemd.kill();
    let status = systemd.property("StatusText");
    assert!(status.starts_with("continuing"), "{status}");
    systemd.run("stop");
    let (code, text) = verify(&store);
    assert!(code == Some(3) && text.contains("unobserved"), "{code:?} {text}");
}

#[test]
fn an_excerpt_has_the_events_that_waited_for_the_next_recorder() {
    let Some((directory, _guard)) = live_test_with(&NEEDS) else { return };
    let store = directory.path().join("store");
    let mut manager = Manager::of_store(&store);
    assert!(manager.start().starts_with("recording to"));
    manager.end(Signal::TERM);
    let before = ForkLoad::burst(200);
    let until = jiff::Timestamp::now().to_string();
    ForkLoad::burst(200);
    assert!(manager.start().starts_with("continuing"));
    manager.end(Signal::TERM);
    let clip = directory.path().join("clip.pmon");
    let pmon = |arguments: &[&str]| {
        let output = Command::new(programs::pmon()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let [store, clip] = [store, clip].map(|path| path.to_str().unwrap().to_owned());
    pmon(&["cut", &store, "--until", &until, "-o", &clip]);
    let lines = |arguments: &[&str]| pmon(&[&["print", "--format", "json"], arguments].concat());
    let expected = lines(&[&store, "--until", &until]);
    let forks = expected.matches(r#""kind":"fork""#).count() as u64;
    assert!(forks >= 200 && lines(&[&clip]) == expected, "{forks} of {} events", before.emitted);
    assert!(pmon(&["verify", &clip]).contains("complete"));
}

#[test]
fn forks_show_that_the_kernel_emitted_no_events_only_while_no_recorder_ran() {
    let Some((directory, _guard)) = live_test_with(&NEEDS) else { return };
    let store = directory.path().join("store");
    let mut manager = Manager::of_store(&store);
    assert!(manager.start().starts_with("recording to"));
    manager.end(Signal::TERM);
    let mut attacker = Attacker::new();
    if attacker.silence(0).is_none() {
        return;
    }
    let hidden = ForkLoad::burst(500);
    attacker.restore();
    assert!(manager.start().starts_with("continuing"));
    manager.end(Signal::TERM);
    // The numbers of all CPUs continue, and all heartbeats arrived.
    let (code, text) = verify(&store);
    assert!(code == Some(3) && text.contains("blind") && text.contains("forks"), "{code:?} {text}");
    eprintln!("{} hidden events: {text}", hidden.emitted);
}
