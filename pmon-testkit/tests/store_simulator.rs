//! Runs the first simulations of a store; `--bin simulate -- --store` runs any number of them.

use pmon_store::simulated::Operation;
use pmon_testkit::store_simulator::{Mistake, StoreSimulation, StoreSimulationTotals};

/// Number of simulations.
const SEEDS: u64 = 16;

#[test]
fn a_store_keeps_every_event_that_it_has_promised_to_keep() {
    let mut sum = StoreSimulationTotals::default();
    for seed in 0..SEEDS {
        let totals = StoreSimulation::from_seed(seed).run().unwrap_or_else(|why| {
            panic!(
                "seed {seed}: {why}\nagain: cargo run --release -p pmon-testkit --bin simulate -- --store --seed {seed}"
            )
        });
        sum.events += totals.events;
        sum.segments += totals.segments;
        sum.clips += totals.clips;
        sum.crashes += totals.crashes;
    }
    assert!(
        sum.events > 1_000 && sum.segments > 10 && sum.clips > 5 && sum.crashes > 5,
        "{sum:?}: nothing is tested"
    );
}

#[test]
fn a_seed_always_writes_the_same_bytes() {
    let digest = |seed| StoreSimulation::from_seed(seed).run().unwrap().digest;
    assert_eq!(digest(2), digest(2));
    assert_ne!(digest(2), digest(3));
}

#[test]
fn each_mistake_is_found() {
    for mistake in [
        Mistake::Omits(Operation::Sync),
        Mistake::Omits(Operation::SyncDirectory),
        Mistake::CountsLossTwice,
        Mistake::OmitsLoss,
        Mistake::SkipsPosition,
        Mistake::LacksPosition,
        Mistake::LacksProcess,
        Mistake::RepeatsEvent,
        Mistake::SumsDrops,
        Mistake::RenamesBeforeSync,
        Mistake::ShortensClip,
    ] {
        let is_found = |seed| StoreSimulation::from_seed(seed).with_mistake(mistake).run().is_err();
        assert!((0..SEEDS).any(is_found), "{mistake:?}");
    }
}

#[test]
fn a_store_that_removes_its_newest_segment_first_is_found() {
    // The store of this seed reaches its limit while the filesystem works.
    let simulation = StoreSimulation::from_seed(15);
    assert!(simulation.with_mistake(Mistake::RemovesNewest).run().is_err());
}

#[test]
fn a_store_that_exceeds_its_limit_by_a_page_is_found() {
    let simulation = |seed| StoreSimulation::from_seed(seed).with_limit(300 << 10);
    let is_found = |seed| simulation(seed).with_mistake(Mistake::ExceedsLimit).run().is_err();
    let seed = (0..SEEDS).find(|&seed| is_found(seed)).expect("no simulation reaches the limit");
    simulation(seed).run().unwrap();
}
