//! The whole recorder on the fake kernel, in virtual time: one seed is one scenario, of events, floods, faults and stalls, which is the
//! same whenever it is run. After each, everything is counted: `cargo run --release -p pmon-testkit --bin simulate -- --for 60`.
//!
//! ```text
//! simulate                  10,000 scenarios, from seed 0
//! simulate --for 60         for a minute
//! simulate --from 50000     from that seed on
//! simulate --seed 4711      this one, and what happened in it
//! ```
//!
//! When a scenario fails, its seed is said, and the exit status is 1.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use pmon_testkit::simulator::Scenario;

/// Records made-up scenarios, and counts whether everything is accounted for.
#[derive(Debug, Parser)]
struct Args {
    /// The first seed
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
    /// How many scenarios
    #[arg(long, value_name = "N", default_value_t = 10_000, conflicts_with = "seconds")]
    number: u64,
    /// Go on for so many seconds instead
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Only this seed; says what happens in it
    #[arg(long, value_name = "SEED", conflicts_with_all = ["from", "number", "seconds"])]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let began = Instant::now();
    let is_over = |done: u64| match (args.seed, args.seconds) {
        (Some(_), _) => done == 1,
        (_, Some(seconds)) => began.elapsed() >= Duration::from_secs(seconds),
        _ => done == args.number,
    };
    let (mut done, mut events, mut lost) = (0, 0, 0);
    while !is_over(done) {
        let seed = args.seed.unwrap_or(args.from + done);
        let scenario = Scenario::of(seed);
        if args.seed.is_some() {
            println!("{scenario:#?}");
        }
        // What panics says where; here it is said which seed it was.
        let outcome = std::panic::catch_unwind(|| scenario.run());
        let failed = match outcome {
            Ok(Ok(counts)) => {
                events += counts.events;
                lost += counts.lost;
                done += 1;
                continue;
            }
            Ok(Err(why)) => why.to_string(),
            Err(_) => "panicked".into(),
        };
        eprintln!("seed {seed} fails: {failed}");
        eprintln!("again: cargo run --release -p pmon-testkit --bin simulate -- --seed {seed}");
        return ExitCode::FAILURE;
    }
    let rate = done as f64 / began.elapsed().as_secs_f64();
    println!(
        "{done} scenarios: {events} events recorded and {lost} lost, all accounted for; {rate:.0} scenarios/s"
    );
    ExitCode::SUCCESS
}
