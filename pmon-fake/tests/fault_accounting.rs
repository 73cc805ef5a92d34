//! Random fault scripts: each run is reproducible, and each loss is accounted for.

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
    let trigger = prop_oneof![
        (0..400_u64).prop_map(Trigger::At),
        (1..100_u64, 0..100_u64).prop_map(|(events, from)| Trigger::Every { events, from }),
        any::<u32>().prop_map(|probability| Trigger::Chance(probability >> 4)),
    ];
    let rule = (trigger, faults(), prop::option::of(0..CPUS));
    prop::collection::vec(rule, 0..6).prop_map(|rules| {
        rules
            .into_iter()
            .fold(FaultScript::new(), |script, (trigger, fault, cpu)| script.with(trigger, fault, cpu))
    })
}

/// Datagrams and their senders.
type SentDatagrams = Vec<(Vec<u8>, u32)>;

/// Emits 400 events under a script, and more every `every`th time.
///
/// Returns the datagrams that a listener with this receive buffer receives, its drops, and the next
/// sequence number of each CPU.
fn run(script: &FaultScript, seed: u64, rcvbuf: i32, every: usize) -> (SentDatagrams, u64, Vec<Seq>) {
    let mut kernel = Kernel::new(CPUS);
    for cpu in 0..CPUS {
        kernel.set_next_seq(Cpu(cpu), Seq(u32::MAX - 20 * cpu));
    }
    let mut socket = kernel.socket();
    socket.force_rcvbuf(rcvbuf).unwrap();
    socket.listen().unwrap();
    let task = kernel.add_process("test");
    let mut received = Vec::new();
    let mut batch = Batch::with_capacity(64);
    let mut take = |socket: &mut pmon_fake::Socket| loop {
        batch.clear();
        match socket.receive(&mut batch).unwrap() {
            Received::Datagrams(_) => {
                let datagrams = batch.datagrams();
                received.extend(datagrams.map(|datagram| (datagram.bytes.to_vec(), datagram.arrival.sender)));
            }
            Received::Overrun => {}
            Received::Empty if socket.poll().readable => {}
            Received::Empty | Received::Closed => break,
        }
    };
    // Before and after the script, an event of each CPU is received, so that each loss leaves a gap
    // between two events.
    let mut emit_on_each_cpu = |kernel: &mut Kernel, socket: &mut pmon_fake::Socket| {
        for cpu in 0..CPUS {
            take(socket);
            kernel.run_on(Cpu(cpu));
            kernel.rename(task, "event");
        }
        take(socket);
    };
    emit_on_each_cpu(&mut kernel, &mut socket);
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
    emit_on_each_cpu(&mut kernel, &mut socket);
    let drops = socket.drops().unwrap().unwrap();
    let next = (0..CPUS).map(|cpu| kernel.next_seq(Cpu(cpu))).collect();
    (received, drops, next)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn equal_scripts_and_seeds_give_equal_results(script in scripts(), seed: u64, every in 1..50_usize) {
        prop_assert_eq!(run(&script, seed, 1 << 15, every), run(&script, seed, 1 << 15, every));
    }

    #[test]
    fn each_event_is_received_or_counted_as_dropped(
        script in scripts(),
        seed: u64,
        rcvbuf in prop_oneof![Just(1 << 11), Just(1 << 15), Just(64 << 20)],
        every in 1..50_usize,
    ) {
        let (received, drops, next) = run(&script, seed, rcvbuf, every);
        let mut accountant = Accountant::new();
        let mut last = BTreeMap::new();
        let (mut missing, mut others) = (0, 0);
        for (bytes, sender) in &received {
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
        // Datagrams without a sequence number of their own can be dropped too, if the buffer is
        // small.
        prop_assert_eq!(last.into_values().collect::<Vec<_>>(), next);
        prop_assert!(missing <= drops);
        prop_assert!(rcvbuf < 1 << 20 || missing == drops, "{missing} {drops} {others}");
    }
}

/// The draws of a seed must not change from one version to the next.
#[test]
fn a_script_with_all_older_faults_gives_the_same_datagrams_as_ever() {
    let script: FaultScript = "
        fault = [
            { at = 10, overrun = \"1..5\", cpu = 1 }, { every = 30, from = 5, no_memory = 3 },
            { chance = 0.02, burst = \"1..4\" }, { chance = 0.02, eintr = \"1..3\" },
            { chance = 0.02, eagain = \"1..3\" }, { chance = 0.02, truncate = \"0..75\" },
            { every = 77, foreign_ack = true }, { every = 78, forge = true }, { every = 79, noop = true },
            { every = 80, error = 105 }, { every = 81, overflow = true }, { every = 82, unknown = 0x20 },
            { chance = 0.02, hold = \"1..9\" }, { chance = 0.02, step = \"0..500000\" },
            { chance = 0.01, blind = \"1..4\" },
        ]"
    .parse()
    .unwrap();
    let (received, drops, _) = run(&script, 7, 1 << 20, 3);
    // FNV-1a.
    let bytes = received.iter().flat_map(|(bytes, sender)| bytes.iter().copied().chain(sender.to_le_bytes()));
    let digest = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    assert_eq!((received.len(), drops, digest), (445, 5, 2_819_704_374_342_411_195));
}
