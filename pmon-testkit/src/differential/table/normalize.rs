//! Observations as text that is the same on both kernels: numbers relative to the scenario's start,
//! names for processes and sockets, no times.

use std::fmt::Write as _;

use pmon_core::wire::{ByteOrder, EVENT_DATAGRAM_LEN, Event, EventBody};

use super::kernel::{CallResult, ReceivedMessage};

/// The values that texts replace by names.
#[derive(Debug, Default)]
pub(crate) struct Normalizer {
    /// Each CPU, and the number to which its numbers are relative.
    pub(crate) base: Vec<(u32, u32)>,
    /// Ports of the scenario's sockets, in the order of their opening.
    pub(crate) ports: Vec<u32>,
    /// IDs of the process and the thread that run the scenario.
    pub(crate) own: (u32, u32),
}

impl Normalizer {
    /// Describes the result of `recvmsg(2)`.
    pub(crate) fn outcome(&self, outcome: &CallResult<ReceivedMessage>) -> String {
        match outcome {
            Ok(received) => self.received(received),
            Err(errno) => errno.to_string(),
        }
    }

    fn received(&self, received: &ReceivedMessage) -> String {
        let ReceivedMessage { bytes, returned, flags, port, groups } = received;
        let mut text = match Event::decode(bytes, ByteOrder::NATIVE) {
            Ok(event) if bytes.len() == EVENT_DATAGRAM_LEN && *port == 0 => self.event(&event),
            _ => format!("{} B", bytes.len()),
        };
        if *returned != bytes.len() {
            let _ = write!(text, " returned {returned}");
        }
        if *flags != 0 {
            let _ = write!(text, " flags {flags:#x}");
        }
        if (*port, *groups) != (0, 1) {
            let _ = write!(text, " from {} groups {groups}", self.port(*port));
        }
        text
    }

    /// Describes an event: its kind, its number, and the fields that a scenario determines.
    pub(crate) fn event(&self, event: &Event) -> String {
        let mut text = format!("{} {}", event.kind(), self.number(event.cpu.0, event.seq.0));
        let _ = match event.body {
            EventBody::Ack { ack, err } => {
                write!(text, " {ack:#x} err {err}")
            }
            EventBody::Exit { code, signal, .. } => write!(text, " code {code:#x} signal {signal}"),
            EventBody::Uid { real: a, effective: b, .. } | EventBody::Gid { real: a, effective: b, .. } => {
                write!(text, " {a} {b}")
            }
            _ => Ok(()),
        };
        text
    }

    /// Describes a sequence number relative to the start, with its CPU unless that is the first.
    pub(crate) fn number(&self, cpu: u32, seq: u32) -> String {
        let Some(index) = self.base.iter().position(|&(of, _)| of == cpu) else {
            return format!("cpu {cpu}");
        };
        let number = seq.wrapping_sub(self.base[index].1).cast_signed();
        if index == 0 { format!("#{number}") } else { format!("#{number} of cpu {index}") }
    }

    pub(crate) fn port(&self, port: u32) -> String {
        match self.ports.iter().position(|&of| of == port) {
            _ if port == 0 => "0".into(),
            Some(index) => format!("socket {index}"),
            None => format!("port {port}"),
        }
    }

    /// Returns a datagram's 32-bit words. Labels replace the words that differ between runs.
    pub(crate) fn words(&self, bytes: &[u8]) -> String {
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let mut text = String::new();
        for at in (0..bytes.len() & !3).step_by(4) {
            let value = word(at);
            let _ = match at {
                8 | 24 if value == word(8) => write!(text, "SEQ "),
                40 if self.base.iter().any(|&(cpu, _)| cpu == value) => write!(text, "CPU "),
                44 => write!(text, "TIME "),
                48 => Ok(()),
                _ if value == self.own.0 || value == self.own.1 => write!(text, "OWN "),
                _ => write!(text, "{value:x} "),
            };
        }
        text.pop();
        text
    }
}

/// Joins texts; a text that is repeated appears once, with its count.
pub(crate) fn runs(texts: &[String]) -> String {
    let mut text = String::new();
    for run in texts.chunk_by(|a, b| a == b) {
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = match run.len() {
            1 => write!(text, "{comma}{}", run[0]),
            many => write!(text, "{comma}{many} x {}", run[0]),
        };
    }
    if text.is_empty() { "nothing".into() } else { text }
}
