//! The recorder in virtual time: some scenarios of the simulator, which can run any number of them (`examples/simulate`).

#[path = "../examples/simulate/scenario/mod.rs"]
mod scenario;

use scenario::Scenario;

#[test]
fn whatever_happens_is_accounted_for_and_its_replay_is_the_same() {
    for seed in 0..100 {
        if let Err(why) = Scenario::of(seed).run() {
            panic!("seed {seed}: {why}\nagain: cargo run --release --example simulate -- --seed {seed}");
        }
    }
}

#[test]
fn a_seed_is_the_same_scenario_to_the_byte() {
    let capture = |seed| Scenario::of(seed).capture().unwrap();
    for seed in [1, 2, 3] {
        assert_eq!(capture(seed), capture(seed));
    }
    assert_ne!(capture(1), capture(2));
}
