//! Reads a capture: counts its events by kind, and prints where events were lost.
//!
//! ```sh
//! cargo run --example read_capture -- FILE
//! ```
#![allow(clippy::print_stdout, reason = "an example")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::Read;

use pmon_core::capture::{Item, Reader, Record};

/// Number of events by kind, and one line for each loss or damaged part.
type EventCounts = (BTreeMap<String, u64>, Vec<String>);

fn read(capture: impl Read) -> Result<EventCounts, Box<dyn Error>> {
    let mut reader = Reader::open(capture)?;
    let byte_order = reader.byte_order();
    let (mut events, mut losses) = (BTreeMap::new(), Vec::new());
    while let Some(item) = reader.next_item()? {
        let block = match item {
            Item::Block(block) => block,
            Item::Damage(damage) => {
                losses.push(format!("damaged part: {damage:?}"));
                continue;
            }
        };
        for record in block.records() {
            match record {
                Record::Event(datagram, _) => {
                    if let Some(event) = datagram.event(byte_order) {
                        *events.entry(event.kind().to_string()).or_default() += 1;
                    }
                }
                Record::Loss(loss) => {
                    losses.push(format!(
                        "{} events lost on CPU {}: {:?}",
                        loss.count(),
                        loss.cpu,
                        loss.cause
                    ));
                }
                _ => {}
            }
        }
    }
    if !reader.ended_cleanly() {
        losses.push("the capture has no end: the recorder was killed, or is still running".to_owned());
    }
    Ok((events, losses))
}

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args_os().nth(1).ok_or("usage: read_capture FILE")?;
    let (events, losses) = read(File::open(file)?)?;
    events.iter().for_each(|(kind, number)| println!("{number:>10} {kind}"));
    losses.iter().for_each(|loss| println!("{loss}"));
    Ok(())
}

#[test]
fn counts_events_and_reports_losses() {
    let capture = pmon_testkit::support::capture(&pmon_testkit::support::git_status_records(), 4);
    let (events, losses) = read(capture.as_slice()).unwrap();
    assert_eq!((events["exec"], events["exit"]), (2, 3));
    assert_eq!(losses, ["123 events lost on CPU 1: Socket"]);
}
