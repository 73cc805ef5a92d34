use clap::Parser as _;
use pmon_core::MonoNs;
use pmon_core::capture::{Header, Meta, Record, RecordedDatagram};
use pmon_core::wire::{ByteOrder, Comm, Event, EventBody};
use pmon_core::{Cpu, Seq, Task};

use super::super::interval::{IntervalFacts, IntervalSums};
use super::*;
use crate::args::{Cli, Command};

fn display(args: &[&str], is_live: bool) -> Display {
    let cli = Cli::try_parse_from([&["pmon", "top"], args].concat()).expect("valid arguments");
    let Some(Command::Top(args)) = cli.command else { panic!("another verb") };
    Display::new(&args, is_live)
}

/// Returns an interval in which processes with these names, and their parent, were running. The
/// names end with letters that control a terminal.
fn interval(names: &[&str], by: GroupBy) -> Interval {
    let header = Header { uuid: [1; 16], byte_order: ByteOrder::Little, meta: Meta::default() };
    let mut tracker = pmon_analysis::life::LifeTracker::new(&header);
    for (pid, name) in (100..).zip(names) {
        let mut comm = Comm::default();
        comm.0[..name.len()].copy_from_slice(name.as_bytes());
        comm.0[name.len()..][..4].copy_from_slice(b"\x1b[2J");
        let task = Task::new(pid, pid);
        let fork = EventBody::Fork { parent: Task::new(1, 1), child: task };
        for body in [fork, EventBody::Comm { task, comm }] {
            let event = Event { time: MonoNs(1_000), seq: Seq(0), cpu: Cpu(0), body };
            tracker.apply(&Record::Event(RecordedDatagram::Event(event), None));
        }
    }
    let mut sums = IntervalSums::new(by);
    tracker.running().iter().filter(|life| life.pid >= 100).for_each(|life| sums.add(life, true));
    sums.into_interval(IntervalFacts {
        users: Default::default(),
        host: "b\x1box".into(),
        until_ns: Some(0),
        length_ns: 1_000_000_000,
        has_running_cpu: true,
        missing: Some("3 events lost".into()),
    })
}

#[test]
fn the_screen_has_a_summary_a_table_and_the_keys() {
    let mut display = display(&["--sort", "key"], true);
    let names: Vec<_> = (b'a'..=b'z').map(|letter| char::from(letter).to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let interval = interval(&names, GroupBy::Comm);
    let lines = display.lines(Some(&interval), (80, 10), None);
    assert_eq!(lines.len(), 10);
    assert!(lines[0].text.starts_with("b\\x1box, "), "{:?}", lines[0]);
    assert!(lines[1].text.starts_with("26 starts (26.0/s), 0 ends (0.0/s), 0 failed"), "{:?}", lines[1]);
    assert_eq!((lines[2].text.as_str(), lines[2].style), ("incomplete: 3 events lost", LineStyle::Warning));
    assert!(lines[3].text.ends_with(" COMM") && lines[4].text.ends_with(" a\\x1b[2J"), "{lines:?}");
    assert!(lines[8].text.ends_with(" e\\x1b[2J"), "{lines:?}");
    assert!(lines[9].text.ends_with("  1/26"), "{:?}", lines[9]);
    // Every size is possible.
    for size in [(0, 0), (1, 1), (5, 3), (1_000, 1_000)] {
        assert_eq!(display.lines(Some(&interval), size, None).len(), size.1.max(1));
    }
}

#[test]
fn keys_scroll_within_the_groups() {
    let mut display = display(&["--sort", "key"], true);
    let interval = interval(&["a", "b", "c", "d", "e", "f", "g"], GroupBy::Comm);
    let mut first = |key| {
        assert_eq!(display.key(key), Request::Draw);
        // Two lines for groups.
        let lines = display.lines(Some(&interval), (80, 7), None);
        lines[4].text.rsplit(' ').next().unwrap().chars().next().unwrap()
    };
    assert_eq!(first(Key::Escape), 'a');
    assert_eq!(
        [first(Key::Down), first(Key::PageDown), first(Key::End), first(Key::Down)],
        ['b', 'd', 'f', 'f']
    );
    assert_eq!([first(Key::Up), first(Key::PageUp), first(Key::Home), first(Key::Up)], ['e', 'c', 'a', 'a']);
}

#[test]
fn keys_change_order_grouping_and_pause() {
    let mut live = display(&[], true);
    assert!(live.lines(None, (80, 5), Some("waiting"))[4].text.starts_with("waiting  q quit"));
    for (key, request) in [('b', Request::Regroup), ('B', Request::Regroup), ('q', Request::Quit)] {
        assert_eq!(live.key(Key::Char(key)), request);
    }
    assert_eq!(live.by, GroupBy::Comm);
    live.key(Key::Char('b'));
    assert_eq!(live.by, GroupBy::Exe);
    live.key(Key::Char('S'));
    assert_eq!(live.sort, TopSortArg::Key);
    live.key(Key::Char('s'));
    assert_eq!(live.sort, TopSortArg::Cpu);
    assert!(!live.is_paused);
    live.key(Key::Char(' '));
    assert!(live.is_paused);
    assert_eq!(live.key(Key::Left), Request::Draw);
    // The help closes with any key, which has no other effect.
    live.key(Key::Char('?'));
    assert_eq!(live.lines(None, (80, 24), None)[0].text, "Keys");
    live.key(Key::Char(' '));
    assert!(live.is_paused && live.lines(None, (80, 24), None)[0].text.is_empty());
    let mut recorded = display(&["x.pmon"], false);
    assert_eq!((recorded.key(Key::Left), recorded.key(Key::Right)), (Request::Move(-1), Request::Move(1)));
    recorded.key(Key::Char(' '));
    assert!(!recorded.is_paused);
}

#[test]
fn every_grouping_and_order_has_its_place() {
    use clap::ValueEnum as _;
    assert!(TopSortArg::value_variants().iter().all(|sort| SORTS.iter().any(|(known, _)| known == sort)));
    for (sort, name) in SORTS {
        assert_eq!(sort.to_possible_value().expect("a name").get_name(), name);
    }
    assert_eq!(next(&GROUPINGS, GroupBy::Subtree, 1), GroupBy::Comm);
}
