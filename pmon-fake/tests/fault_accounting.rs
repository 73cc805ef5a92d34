//! Whatever the script and the seed: the same each time, and nothing unaccounted for.

use std::collections::BTreeMap;

use pmon_core::accounting::{Accountant, Continuity};
use pmon_core::batch::Batch;
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Event, Message, messages};
use pmon_core::{Cpu, Seq};
use pmon_fake::{Amount, Fault, FaultScript, Kernel, Trigger};
use proptest::prelude::*;

const CPUS: u32 = 3;

fn amounts() -> impl Strategy<Value = Amount> {
    (0..30_u32, 0..30_u32).prop_map(|(from, more)| (from..=from + more).into())
}

fn faults() -> impl Strategy<Value = Fault> {
    prop_oneof![
        amounts().prop_map(Fault::Overrun),
        amounts().prop_map(Fault::Burst),
        amounts().prop_map(Fault::Eintr),
        amounts().prop_map(Fault::Eagain),
        Just(Fault::ForeignAck),
        Just(Fault::Forge),
        Just(Fault::Noop),
        any::<i32>().prop_map(Fault::Error),
        Just(Fault::Overflow),
        (0x10_u32..0x40).prop_map(Fault::Unknown),
        amounts().prop_map(Fault::Hold),
        amounts().prop_map(Fault::Step),
        amounts().prop_map(Fault::Blind),
    ]
}

fn scripts() -> impl Strategy<Value = FaultScript> {
    let place = prop_oneof![
        (0..400_u64).prop_map(Trigger::At),
        (1..100_u64, 0..100_u64).prop_map(|(events, from)| Trigger::Every { events, from }),
        any::<u32>().prop_map(|of| Trigger::Chance(of >> 4)),
    ];
    let rule = (place, faults(), prop::option::of(0..CPUS));
    prop::collection::vec(rule, 0..6).prop_map(|rules| {
        rules
            .into_iter()
            .fold(FaultScript::new(), |script, (place, fault, cpu)| script.with(place, fault, cpu))
    })
}

/// Datagrams and their senders.
type Heard = Vec<(Vec<u8>, u32)>;

/// What a listener with that buffer hears of 400 events, of which it takes as many at a time as it is told; and the numbers of the CPUs.
fn heard(script: &FaultScript, seed: u64, rcvbuf: i32, every: usize) -> (Heard, u64, Vec<Seq>) {
    let mut kernel = Kernel::new(CPUS);
    for cpu in 0..CPUS {
        kernel.set_next_seq(Cpu(cpu), Seq(u32::MAX - 20 * cpu));
    }
    let mut socket = kernel.socket();
    socket.force_rcvbuf(rcvbuf).unwrap();
    socket.listen().unwrap();
    let task = kernel.add_process("test");
    let mut heard = Vec::new();
    let mut batch = Batch::with_capacity(64);
    let mut take = |socket: &mut pmon_fake::Socket| loop {
        batch.clear();
        match socket.receive(&mut batch).unwrap() {
            Received::Datagrams(_) => {
                heard.extend(batch.datagrams().map(|frame| (frame.bytes.to_vec(), frame.arrival.sender)));
            }
            Received::Overrun => {}
            Received::Empty if socket.poll().readable => {}
            Received::Empty | Received::Closed => break,
        }
    };
    // All CPUs are heard before anything goes wrong, and after.
    let mut say = |kernel: &mut Kernel, socket: &mut pmon_fake::Socket| {
        for cpu in 0..CPUS {
            take(socket);
            kernel.run_on(Cpu(cpu));
            kernel.rename(task, "word");
        }
        take(socket);
    };
    say(&mut kernel, &mut socket);
    kernel.inject(script.clone(), seed);
    for n in 0..400 {
        kernel.run_on(Cpu(n as u32 * 7 % CPUS));
        kernel.rename(task, "test");
        if n % every == 0 {
            let cpu = n as u32 % CPUS;
            kernel.run_on(Cpu(cpu));
            kernel.setsid(task);
        }
    }
    kernel.inject(FaultScript::new(), 0);
    say(&mut kernel, &mut socket);
    let drops = socket.drops().unwrap().unwrap();
    let next = (0..CPUS).map(|cpu| kernel.next_seq(Cpu(cpu))).collect();
    (heard, drops, next)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn it_is_the_same_each_time(script in scripts(), seed: u64, every in 1..50_usize) {
        prop_assert_eq!(heard(&script, seed, 1 << 15, every), heard(&script, seed, 1 << 15, every));
    }

    #[test]
    fn what_happened_was_heard_or_dropped(
        script in scripts(),
        seed: u64,
        rcvbuf in prop_oneof![Just(1 << 11), Just(1 << 15), Just(64 << 20)],
        every in 1..50_usize,
    ) {
        let (heard, drops, next) = heard(&script, seed, rcvbuf, every);
        let mut accountant = Accountant::new();
        let mut last = BTreeMap::new();
        let (mut missing, mut others) = (0, 0);
        for (bytes, sender) in &heard {
            let event = messages(bytes, ByteOrder::NATIVE).next();
            let Some(Ok(Message::Event(event @ Event { cpu, seq, .. }))) = event else {
                others += 1;
                continue;
            };
            if *sender != 0 {
                others += 1;
                continue;
            }
            match accountant.observe(&event, 0) {
                Continuity::Gap(gap) => missing += gap.count(),
                Continuity::Backwards => prop_assert!(false, "{event:?}"),
                _ => {}
            }
            last.insert(cpu.0, seq.next());
        }
        // With a word of each CPU at the end, no loss is left unseen; what has no number may be dropped, too.
        prop_assert_eq!(last.into_values().collect::<Vec<_>>(), next);
        prop_assert!(missing <= drops);
        prop_assert!(rcvbuf < 1 << 20 || missing == drops, "{missing} {drops} {others}");
    }
}
