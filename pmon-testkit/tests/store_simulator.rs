//! Runs some simulations of a store; `--bin simulate -- --store` runs any number of them.

use pmon_testkit::store_simulator::{StoreSimulation, StoreSimulationTotals};

/// Short simulations of all kinds.
const SEEDS: [u64; 16] = [0, 1, 2, 8, 12, 13, 16, 17, 19, 21, 23, 24, 26, 27, 28, 29];

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
    assert!(sum.events > 5_000 && sum.segments > 30 && sum.crashes > 10, "{sum:?}: nothing is tested");
}
