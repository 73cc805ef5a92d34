//! The recorder in virtual time: some scenarios of the simulator, which can run any number of them (`pmon-testkit/src/simulator`).

use pmon_testkit::simulator::Scenario;

#[test]
fn whatever_happens_is_accounted_for_and_its_replay_is_the_same() {
    let (mut events, mut lost) = (0, 0);
    for seed in 0..100 {
        match Scenario::of(seed).run() {
            Ok(counts) => (events, lost) = (events + counts.events, lost + counts.lost),
            Err(why) => {
                panic!(
                    "seed {seed}: {why}\nagain: cargo run --release -p pmon-testkit --bin simulate -- --seed {seed}"
                )
            }
        }
    }
    assert!(events > 100_000 && lost > 10_000, "{events} events, {lost} lost: these scenarios say little");
}

#[test]
fn a_seed_is_the_same_scenario_to_the_byte() {
    let capture = |seed| Scenario::of(seed).capture().unwrap();
    for seed in [1, 2, 3] {
        assert_eq!(capture(seed), capture(seed));
    }
    assert_ne!(capture(1), capture(2));
}
