//! Runs simulations of the recorder, and checks that every event is accounted for.
//!
//! ```text
//! cargo run --release -p pmon-testkit --bin simulate                   10,000 simulations, from seed 0
//! cargo run --release -p pmon-testkit --bin simulate -- --for 60       for a minute
//! cargo run --release -p pmon-testkit --bin simulate -- --from 50000   from that seed on
//! cargo run --release -p pmon-testkit --bin simulate -- --seed 4711    one seed, with what happens in it
//! ```
//!
//! A seed always gives the same simulation. If one fails, the program prints its seed and exits
//! with status 1.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use pmon_testkit::simulator::Simulation;

/// Record simulated events, and check that every event is accounted for
#[derive(Debug, Parser)]
struct SimulateArgs {
    /// First seed
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
    /// Number of simulations
    #[arg(long, value_name = "N", default_value_t = 10_000, conflicts_with = "seconds")]
    number: u64,
    /// Run simulations for that many seconds instead
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Run only this seed, and print what happens in it
    #[arg(long, value_name = "SEED", conflicts_with_all = ["from", "number", "seconds"])]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let args = SimulateArgs::parse();
    let began = Instant::now();
    let is_over = |done: u64| match (args.seed, args.seconds) {
        (Some(_), _) => done == 1,
        (_, Some(seconds)) => began.elapsed() >= Duration::from_secs(seconds),
        _ => done == args.number,
    };
    let (mut done, mut events, mut lost) = (0, 0, 0);
    while !is_over(done) {
        let seed = args.seed.unwrap_or(args.from + done);
        let simulation = Simulation::from_seed(seed);
        if args.seed.is_some() {
            println!("{simulation:#?}");
        }
        // A panic prints its place, but not the seed.
        let result = std::panic::catch_unwind(|| simulation.run());
        let failure = match result {
            Ok(Ok(totals)) => {
                events += totals.events;
                lost += totals.lost;
                done += 1;
                continue;
            }
            Ok(Err(why)) => why.to_string(),
            Err(_) => "panicked".into(),
        };
        eprintln!("seed {seed} fails: {failure}");
        eprintln!("again: cargo run --release -p pmon-testkit --bin simulate -- --seed {seed}");
        return ExitCode::FAILURE;
    }
    let rate = done as f64 / began.elapsed().as_secs_f64();
    println!(
        "{done} simulations: {events} events recorded and {lost} lost, all accounted for; {rate:.0} simulations/s"
    );
    ExitCode::SUCCESS
}
