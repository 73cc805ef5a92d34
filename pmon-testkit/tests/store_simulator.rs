//! Runs some simulations of a store; `--bin simulate -- --store` runs any number of them.

use pmon_store::simulated::Operation;
use pmon_testkit::store_simulator::{StoreSimulation, StoreSimulationTotals};

/// Short simulations of all kinds.
const SEEDS: [u64; 6] = [0, 1, 2, 8, 12, 13];

#[test]
fn a_store_keeps_every_event_that_it_has_promised_to_keep() {
    let mut sum = StoreSimulationTotals::default();
    for seed in SEEDS {
        let totals = StoreSimulation::from_seed(seed).run().unwrap_or_else(|why| {
            panic!(
                "seed {seed}: {why}\nagain: cargo run --release -p pmon-testkit --bin simulate -- --store --seed {seed}"
            )
        });
        sum.events += totals.events;
        sum.segments += totals.segments;
        sum.crashes += totals.crashes;
    }
    assert!(sum.events > 1_000 && sum.segments > 10 && sum.crashes > 5, "{sum:?}: nothing is tested");
}

#[test]
fn a_sync_without_effect_is_found() {
    for omitted in [Operation::Sync, Operation::SyncDirectory] {
        let is_found = |seed| StoreSimulation::from_seed(seed).with_mistake(omitted).run().is_err();
        assert!(SEEDS.into_iter().any(is_found), "{omitted:?}");
    }
}
