//! Runs the first hundred simulations of the recorder; `--bin simulate` runs any number of them.

use pmon_testkit::simulator::Simulation;

#[test]
fn every_event_is_recorded_or_lost_and_the_replay_is_the_same() {
    let (mut events, mut lost) = (0, 0);
    for seed in 0..100 {
        match Simulation::from_seed(seed).run() {
            Ok(totals) => (events, lost) = (events + totals.events, lost + totals.lost),
            Err(why) => {
                panic!(
                    "seed {seed}: {why}\nagain: cargo run --release -p pmon-testkit --bin simulate -- --seed {seed}"
                )
            }
        }
    }
    assert!(events > 100_000 && lost > 10_000, "only {events} events and {lost} lost: nothing is tested");
}

#[test]
fn a_seed_always_gives_the_same_capture() {
    let capture = |seed| Simulation::from_seed(seed).capture().unwrap();
    for seed in [1, 2, 3] {
        assert_eq!(capture(seed), capture(seed));
    }
    assert_ne!(capture(1), capture(2));
}
