//! One connection on a stream in memory, in virtual time.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::control::connection::{CLIENT_TIMEOUT, Connection, REQUEST_INTERVAL, Step};
use crate::control::protocol::MAX_LINE;
use crate::control::*;

/// A stream in memory: reads what the client has sent, in these pieces.
#[derive(Default)]
struct Pieces {
    sent: VecDeque<Vec<u8>>,
    has_ended: bool,
    received: Vec<u8>,
    /// Bytes that the client still accepts.
    room: usize,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(mut piece) = self.sent.pop_front() else {
            return if self.has_ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        };
        let read = piece.len().min(into.len());
        into[..read].copy_from_slice(&piece[..read]);
        let rest = piece.split_off(read);
        if !rest.is_empty() {
            self.sent.push_front(rest);
        }
        Ok(read)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = bytes.len().min(self.room);
        self.room -= written;
        self.received.extend_from_slice(&bytes[..written]);
        if written == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(written) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn client(now: Instant, sent: &[&[u8]]) -> Connection<Pieces> {
    let sent = sent.iter().map(|piece| piece.to_vec()).collect();
    Connection::new(Pieces { sent, room: usize::MAX, ..Pieces::default() }, now)
}

fn replies(client: &Connection<Pieces>) -> Vec<Reply> {
    let lines = client.stream.received.split_inclusive(|&byte| byte == b'\n');
    lines.map(|line| Reply::parse(line).expect("a reply")).collect()
}

fn is_error(reply: &Reply, expected: ErrorCode) -> bool {
    matches!(reply, Reply::Error { code, .. } if *code == expected)
}

#[test]
fn requests_are_handled_one_after_the_other() {
    let now = Instant::now();
    let mut client = client(now, &[b"{\"request\":\"sta", b"tus\"}\n{\"request\":\"rotate\"}\n"]);
    assert_eq!(client.advance(now), Step::Handle(Request::Status));
    // The second request has arrived, but the first one is in progress.
    assert_eq!(client.advance(now + CLIENT_TIMEOUT * 9), Step::Wait(None));
    client.reply(&Reply::Status(Box::default()), now + CLIENT_TIMEOUT * 9);
    let now = now + CLIENT_TIMEOUT * 9;
    assert_eq!(client.advance(now), Step::Handle(Request::Rotate));
    client.reply(&Reply::Rotate(RotateReply::default()), now);
    assert_eq!(replies(&client).len(), 1, "the second reply is written by the next call");
    assert_eq!(client.advance(now), Step::Wait(Some(now + REQUEST_INTERVAL)));
    assert_eq!(replies(&client).len(), 2);
}

#[test]
fn a_flood_is_slowed_down() {
    let start = Instant::now();
    let mut client = client(start, &[b"{\"request\":\"status\"}\n".repeat(1000).as_slice()]);
    let (mut now, mut handled) = (start, 0);
    while now < start + Duration::from_secs(1) {
        match client.advance(now) {
            Step::Handle(_) => {
                handled += 1;
                client.reply(&Reply::Rotate(RotateReply::default()), now);
            }
            Step::Wait(Some(until)) => now = until,
            step => panic!("{step:?}"),
        }
    }
    assert!((50..=101).contains(&handled), "{handled} requests a second");
}

#[test]
fn idle_slow_and_unreceptive_clients_are_dropped_in_time() {
    let now = Instant::now();
    let mut idle = client(now, &[]);
    assert_eq!(idle.advance(now), Step::Wait(Some(now + CLIENT_TIMEOUT)));
    assert_eq!(idle.advance(now + CLIENT_TIMEOUT), Step::Close);

    // A byte now and then does not extend the time for a request.
    let mut slow = client(now, &[]);
    for second in 0..10 {
        slow.stream.sent.push_back(b"{".to_vec());
        assert_eq!(slow.advance(now + Duration::from_secs(second)), Step::Wait(Some(now + CLIENT_TIMEOUT)));
    }
    assert_eq!(slow.advance(now + CLIENT_TIMEOUT), Step::Close);

    let mut unreceptive = client(now, &[b"{\"request\":\"rotate\"}\n"]);
    unreceptive.stream.room = 3;
    assert_eq!(unreceptive.advance(now), Step::Handle(Request::Rotate));
    let later = now + Duration::from_secs(60);
    unreceptive.reply(&Reply::Rotate(RotateReply::default()), later);
    assert_eq!(unreceptive.advance(later), Step::Wait(Some(later + CLIENT_TIMEOUT)));
    assert_eq!(unreceptive.advance(later + CLIENT_TIMEOUT), Step::Close);
}

#[test]
fn a_half_closed_client_receives_its_reply() {
    let now = Instant::now();
    // The last line needs no line feed.
    let mut half_closed = client(now, &[b"{\"request\":\"rotate\"}"]);
    half_closed.stream.has_ended = true;
    assert_eq!(half_closed.advance(now), Step::Handle(Request::Rotate));
    half_closed.reply(&Reply::Rotate(RotateReply::default()), now);
    let Step::Wait(Some(until)) = half_closed.advance(now) else { panic!("too early") };
    assert_eq!(half_closed.advance(until), Step::Close);
    assert_eq!(replies(&half_closed), [Reply::Rotate(RotateReply::default())]);
}

#[test]
fn a_line_that_is_too_long_ends_the_connection_with_an_error() {
    let now = Instant::now();
    let long = [b" ".repeat(MAX_LINE), b"{\"request\":\"status\"}\n".to_vec()].concat();
    let mut too_long = client(now, &[&long]);
    assert_eq!(too_long.advance(now), Step::Close);
    assert!(is_error(&replies(&too_long)[0], ErrorCode::BadRequest));
    // The longest line is handled.
    let padding = " ".repeat(MAX_LINE - "{\"request\":\"status\"}\n".len());
    let mut longest = client(now, &[format!("{{\"request\":{padding}\"status\"}}\n").as_bytes()]);
    assert_eq!(longest.advance(now), Step::Handle(Request::Status));
}

#[test]
fn a_malformed_request_is_answered_and_the_next_one_handled() {
    let now = Instant::now();
    let mut client = client(now, &[b"\xff\x00\n{\"request\":\"status\"}\n"]);
    assert_eq!(client.advance(now), Step::Wait(Some(now + REQUEST_INTERVAL)));
    assert!(is_error(&replies(&client)[0], ErrorCode::BadRequest));
    assert_eq!(client.advance(now + REQUEST_INTERVAL), Step::Handle(Request::Status));
}

proptest! {
    /// Whatever a client sends, it receives lines that are replies, and its state stays bounded.
    #[test]
    fn any_bytes_are_answered_by_replies(
        pieces in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            Just(b"{\"request\":\"status\"}\n".to_vec()),
            Just(b"{\"request\":\"snapshot\",\"name\":\"x\"}\n".to_vec()),
            Just(b"\n".to_vec()),
            Just(vec![b'x'; MAX_LINE]),
        ], 0..20),
        room in prop_oneof![Just(usize::MAX), 0_usize..100],
        has_ended in any::<bool>(),
    ) {
        let mut now = Instant::now();
        let mut client = Connection::new(Pieces { sent: pieces.into(), has_ended, received: vec![], room }, now);
        let mut handled = 0;
        for _ in 0..1000 {
            match client.advance(now) {
                Step::Close => break,
                Step::Wait(until) => now = until.expect("no request is in progress"),
                Step::Handle(_) => {
                    handled += 1;
                    client.reply(&Reply::Rotate(RotateReply::default()), now);
                }
            }
        }
        prop_assert!(matches!(client.advance(now), Step::Close), "it does not end");
        if room == usize::MAX {
            let rotated = replies(&client).iter().filter(|reply| matches!(reply, Reply::Rotate(_))).count();
            prop_assert_eq!(rotated, handled);
        }
    }
}
