//! Listens to the process events of this machine for five seconds, and prints each event.
//!
//! ```sh
//! cargo run --example listen
//! ```
//!
//! Before Linux 6.6, this needs root.
#![allow(clippy::print_stdout, reason = "an example")]

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use pmon_core::capture::Record;
use pmon_core::wire::ByteOrder;
use pmon_record::{RecordOptions, Recording, Sink, SinkError, Subscription, TransportChoice};

/// A sink that prints events and losses.
struct Printer;

impl Sink for Printer {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        match record {
            Record::Event(datagram, _) => {
                if let Some(event) = datagram.event(ByteOrder::NATIVE) {
                    println!("{:?}", event.body);
                }
            }
            Record::Loss(loss) => println!("{} events lost: {:?}", loss.count(), loss.cause),
            _ => {}
        }
        Ok(())
    }

    fn tick(&mut self, _now: Instant) -> Result<Option<Instant>, SinkError> {
        Ok(None)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = RecordOptions { transport: TransportChoice::Recvmmsg, ..RecordOptions::default() };
    let recording = Recording::start(Subscription::open(&options)?, Printer, &options)?;
    thread::sleep(Duration::from_secs(5));
    recording.stopper().stop();
    let (_, end) = recording.join()?;
    println!("{} events, {} lost", end.events, end.lost.total());
    Ok(())
}
