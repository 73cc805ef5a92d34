//! One client of the control socket. The stream and the time are arguments, so tests need neither.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::protocol::{MAX_LINE, Reply, Request, RequestError};

/// Time in which a client must complete a request, and accept a reply.
pub(super) const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Minimum time between two requests of a client, so that a flood costs little CPU time.
pub(super) const REQUEST_INTERVAL: Duration = Duration::from_millis(10);
/// Bytes read at once.
const READ_SIZE: usize = 4 << 10;

/// A connected client.
///
/// A client has at most one request in progress. While a request is in progress, nothing is read,
/// so a client that sends more than it receives fills its own socket buffer.
pub(super) struct Connection<S> {
    pub(super) stream: S,
    input: Vec<u8>,
    /// Number of bytes of `input` that contain no line feed.
    searched: usize,
    /// Whether the client has closed its side.
    input_ended: bool,
    output: Vec<u8>,
    state: ConnectionState,
    /// When the current state ends at the latest; has no effect while a request is in progress.
    deadline: Instant,
    /// When the next request is accepted.
    next_request: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionState {
    /// A request is expected.
    Idle,
    /// The recorder handles a request.
    InProgress,
    /// The connection ends once the output is written.
    Closing,
}

/// What a [`Connection`] needs next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing until the stream is ready, or until this time.
    Wait(Option<Instant>),
    /// Handle this request, then call [`Connection::reply`].
    Handle(Request),
    /// Drop the connection.
    Close,
}

impl<S: Read + Write> Connection<S> {
    /// Creates the state of a client that has just connected.
    pub(super) fn new(stream: S, now: Instant) -> Self {
        Self {
            stream,
            input: Vec::new(),
            searched: 0,
            input_ended: false,
            output: Vec::new(),
            state: ConnectionState::Idle,
            deadline: now + CLIENT_TIMEOUT,
            next_request: now,
        }
    }

    /// Reads and writes as much as possible without waiting.
    pub(super) fn advance(&mut self, now: Instant) -> Step {
        if self.flush().is_err() {
            return Step::Close;
        }
        match self.state {
            ConnectionState::InProgress => Step::Wait(None),
            _ if now >= self.deadline => Step::Close,
            // A client that does not accept its replies sends no further requests.
            _ if !self.output.is_empty() => Step::Wait(Some(self.deadline)),
            ConnectionState::Closing => Step::Close,
            ConnectionState::Idle if now < self.next_request => Step::Wait(Some(self.next_request)),
            ConnectionState::Idle => self.next_step(now),
        }
    }

    /// Whether a request is in progress.
    pub(super) fn is_in_progress(&self) -> bool {
        self.state == ConnectionState::InProgress
    }

    /// Queues the reply to the request in progress. Call [`Self::advance`] afterwards.
    pub(super) fn reply(&mut self, reply: &Reply, now: Instant) {
        self.output.extend_from_slice(reply.to_line().as_bytes());
        self.deadline = now + CLIENT_TIMEOUT;
        if self.state == ConnectionState::InProgress {
            self.state = ConnectionState::Idle;
        }
    }

    /// Queues a last reply, after which the connection ends.
    pub(super) fn close_with(&mut self, reply: &Reply, now: Instant) {
        self.reply(reply, now);
        self.state = ConnectionState::Closing;
    }

    fn next_step(&mut self, now: Instant) -> Step {
        let line = match self.read_line() {
            Ok(Some(line)) => line,
            Ok(None) if self.input_ended => return Step::Close,
            Ok(None) => return Step::Wait(Some(self.deadline)),
            Err(LineError::TooLong) => {
                // Where the next request begins is unknown.
                self.close_with(&RequestError::TooLong.into(), now);
                return self.advance(now);
            }
            Err(LineError::Stream) => return Step::Close,
        };
        self.next_request = now + REQUEST_INTERVAL;
        match Request::parse(&line) {
            Ok(request) => {
                self.state = ConnectionState::InProgress;
                Step::Handle(request)
            }
            Err(error) => {
                self.reply(&error.into(), now);
                self.advance(now)
            }
        }
    }

    /// Returns the next line, if it has arrived completely. The last line needs no line feed.
    fn read_line(&mut self) -> Result<Option<Vec<u8>>, LineError> {
        loop {
            if let Some(end) = self.input[self.searched..].iter().position(|&byte| byte == b'\n') {
                let rest = self.input.split_off(self.searched + end + 1);
                self.searched = 0;
                return Ok(Some(std::mem::replace(&mut self.input, rest)));
            }
            self.searched = self.input.len();
            if self.input_ended {
                self.searched = 0;
                let line = std::mem::take(&mut self.input);
                return Ok((!line.trim_ascii().is_empty()).then_some(line));
            }
            if self.input.len() >= MAX_LINE {
                return Err(LineError::TooLong);
            }
            let room = READ_SIZE.min(MAX_LINE - self.input.len());
            self.input.resize(self.searched + room, 0);
            let read = self.stream.read(&mut self.input[self.searched..]);
            self.input.truncate(self.searched + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => self.input_ended = true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(LineError::Stream),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.output.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Why no line can be read.
enum LineError {
    TooLong,
    Stream,
}
