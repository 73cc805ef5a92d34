//! Runs simulations of the recorder, and checks that every event is accounted for.
//!
//! ```text
//! cargo run --release -p pmon-testkit --bin simulate                   10,000 simulations, from seed 0
//! cargo run --release -p pmon-testkit --bin simulate -- --for 60       for a minute
//! cargo run --release -p pmon-testkit --bin simulate -- --from 50000   from that seed on
//! cargo run --release -p pmon-testkit --bin simulate -- --seed 4711    one seed, with what happens in it
//! cargo run --release -p pmon-testkit --bin simulate -- --store        the store instead, on a simulated filesystem
//! cargo run --release -p pmon-testkit --bin simulate -- --store --crash-all    with a crash before every operation
//! ```
//!
//! A seed always gives the same simulation. If one fails, the program prints its seed and exits
//! with status 1.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use pmon_testkit::simulator::Simulation;
use pmon_testkit::store_simulator::StoreSimulation;

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
    /// Simulate the store on a filesystem that crashes, fills up and fails
    #[arg(long)]
    store: bool,
    /// Crash the store's recorder before every operation, not only before some
    #[arg(long, requires = "store")]
    crash_all: bool,
}

/// What a simulation recorded.
#[derive(Clone, Copy, Debug, Default)]
struct SimulatedTotals {
    events: u64,
    lost: u64,
    crashes: u64,
}

/// Runs one simulation.
fn run(args: &SimulateArgs, seed: u64) -> Result<SimulatedTotals, String> {
    if args.store {
        let mut simulation = StoreSimulation::from_seed(seed);
        if args.crash_all {
            simulation = simulation.with_all_crashes();
        }
        if args.seed.is_some() {
            println!("{simulation:#?}");
        }
        let totals = simulation.run().map_err(|why| why.to_string())?;
        return Ok(SimulatedTotals { events: totals.events, lost: totals.lost, crashes: totals.crashes });
    }
    let simulation = Simulation::from_seed(seed);
    if args.seed.is_some() {
        println!("{simulation:#?}");
    }
    let totals = simulation.run().map_err(|why| why.to_string())?;
    Ok(SimulatedTotals { events: totals.events, lost: totals.lost, crashes: 0 })
}

fn main() -> ExitCode {
    let args = SimulateArgs::parse();
    let began = Instant::now();
    let is_over = |done: u64| match (args.seed, args.seconds) {
        (Some(_), _) => done == 1,
        (_, Some(seconds)) => began.elapsed() >= Duration::from_secs(seconds),
        _ => done == args.number,
    };
    let (mut done, mut sum) = (0, SimulatedTotals::default());
    while !is_over(done) {
        let seed = args.seed.unwrap_or(args.from + done);
        // A panic prints its place, but not the seed.
        let result = std::panic::catch_unwind(|| run(&args, seed));
        let failure = match result {
            Ok(Ok(totals)) => {
                sum.events += totals.events;
                sum.lost += totals.lost;
                sum.crashes += totals.crashes;
                done += 1;
                continue;
            }
            Ok(Err(why)) => why,
            Err(_) => "panicked".into(),
        };
        let store = if args.store { "--store " } else { "" };
        let crash_all = if args.crash_all { "--crash-all " } else { "" };
        eprintln!("seed {seed} fails: {failure}");
        eprintln!(
            "again: cargo run --release -p pmon-testkit --bin simulate -- {store}{crash_all}--seed {seed}"
        );
        return ExitCode::FAILURE;
    }
    let rate = done as f64 / began.elapsed().as_secs_f64();
    let SimulatedTotals { events, lost, crashes } = sum;
    let crashes = if args.store { format!(", {crashes} crashes") } else { String::new() };
    println!(
        "{done} simulations: {events} events recorded and {lost} lost{crashes}, all accounted for; {rate:.0} simulations/s"
    );
    ExitCode::SUCCESS
}
