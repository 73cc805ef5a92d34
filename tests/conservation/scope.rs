//! What is not wanted is left out, counted, and not taken for a loss.

use std::collections::HashSet;
use std::thread;

use pmon_core::accounting::LossCause;
use pmon_core::wire::{Body, Event, Kind};

use crate::common::recorder::on;
use crate::common::{Capture, Recorder, scene};
use crate::flood::Flood;
use crate::observer::{Number, Observer};
use crate::{SETTLED, numbers};

/// Records a flood with these options, in the presence of an observer; gives the capture, and all that was emitted from the first
/// event of each CPU in it to the last. `None` where that cannot be.
fn observed(options: &[&str], flood: &[&str]) -> Option<(Capture, Vec<Event>)> {
    let (dir, _guard) = scene()?;
    let observer = Observer::new()?;
    let recorder = Recorder::start(&dir, options);
    Flood::run(flood);
    thread::sleep(SETTLED);
    let capture = recorder.end();
    capture.check();
    assert!(capture.is_partial && capture.report.left_out > 0);
    let mut span = std::collections::HashMap::new();
    for event in capture.events() {
        span.entry(event.cpu).or_insert((event.time, event.time)).1 = event.time;
    }
    let heard = observer.heard().into_values();
    let within =
        |event: &Event| span.get(&event.cpu).is_some_and(|(from, to)| (from..=to).contains(&&event.time));
    Some((capture, heard.filter(within).collect()))
}

fn number(event: &Event) -> Number {
    (event.cpu, event.seq)
}

#[test]
fn what_is_wanted_is_recorded_and_the_rest_counted_to_the_event() {
    on(&["--transport", "ring+details"], || {
        let flood = ["fork", "--count", "3000", "--processes", "2"];
        let Some((capture, emitted)) = observed(&["--only", "exit"], &flood) else { return };
        assert_eq!(capture.totals().lost.total(), 0);
        let is_wanted = |event: &&Event| event.kind() == Kind::Exit;
        let wanted: HashSet<_> = emitted.iter().filter(is_wanted).map(number).collect();
        let recorded: HashSet<_> = capture.events().filter(is_wanted).map(number).collect();
        assert_eq!(wanted, recorded);
        // Besides there are only acknowledgements, and signs of life.
        assert!(capture.events().filter(|event| !is_wanted(event)).count() < 100);
        assert_eq!(capture.report.left_out, (emitted.len() - capture.events().count()) as u64);
    });
}

#[test]
fn what_a_full_ring_costs_of_what_is_wanted_is_counted_to_the_event() {
    on(&["--transport", "ring"], || {
        let flood = ["rename", "--count", "50000", "--processes", "2", "--pin"];
        let options = ["--only", "comm,exec", "--ring", "4K", "--buffer", "64K"];
        let Some((capture, emitted)) = observed(&options, &flood) else { return };
        let end = capture.totals();
        let (ring, backpressure) = (end.lost.of(LossCause::Ring), end.lost.of(LossCause::Backpressure));
        assert!(ring > 0 && ring + backpressure == end.lost.total(), "{:?}", end.lost);
        let recorded = capture.events().count() as u64;
        assert_eq!(recorded + end.lost.total() + capture.report.left_out, emitted.len() as u64);
        // Which of a gap's numbers are lost is not known if some were left out; that they are of a gap is.
        let heard: HashSet<_> = emitted.iter().map(number).collect();
        assert!(capture.losses().flat_map(numbers).all(|number| heard.contains(&number)));
        let dropped: u64 = capture.ring.iter().flat_map(|ring| &ring.cpus).map(|cpu| cpu.dropped).sum();
        assert_eq!(dropped, ring);
    });
}

#[test]
fn a_tree_is_what_descends_from_its_root_and_nothing_else() {
    on(&["--transport", "ring"], || {
        let Some((dir, _guard)) = scene() else { return };
        let mut shell = std::process::Command::new("sh");
        let shell =
            shell.args(["-c", "read line; (true; sh -c '(true)')"]).stdin(std::process::Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let root = shell.id();
        let recorder = Recorder::start(&dir, &["--tree", &root.to_string()]);
        let others = Flood::run(&["fork", "--count", "200"]);
        drop(shell.stdin.take());
        assert!(shell.wait().unwrap().success());
        thread::sleep(SETTLED);
        let capture = recorder.end();
        capture.check();
        assert!(others.among(capture.events()).is_empty() && capture.report.left_out >= others.emitted);
        let mut tree = HashSet::from([root]);
        let (mut execs, mut exits) = (0, 0);
        for event in capture.events() {
            match event.body {
                Body::Fork { parent, child } => {
                    assert!(tree.contains(&parent.tgid.0), "{event:?}");
                    tree.insert(child.tgid.0);
                }
                Body::Exec { task } => execs += u64::from(tree.contains(&task.tgid.0)),
                Body::Exit { task, .. } => exits += u64::from(tree.contains(&task.tgid.0)),
                _ => {}
            }
        }
        assert!(execs >= 1 && exits as usize == tree.len(), "{execs} execs, {exits} exits of {tree:?}");
    });
}
