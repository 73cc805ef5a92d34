//! The thread `pmon-control`: accepts clients and passes their requests to the recorder.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use rustix::process::setpriority_process;
use rustix::thread::gettid;

use super::connection::{Connection, Step};
use super::protocol::{ErrorCode, Reply, Request};
use super::socket::{ControlSocket, FileIdentity, identity_of};

/// Maximum number of clients at a time. Further ones receive an error.
pub(super) const MAX_CLIENTS: usize = 16;

/// Nice value of the thread, so that floods of requests do not compete with the recording.
const NICE: i32 = 10;
/// Time until the next attempt after a failure to accept a client, for example because no file
/// descriptor is available.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Maximum number of clients that are accepted before the others are served.
const ACCEPTS: usize = 64;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
/// Number of the first client; clients are numbered in the order of their connection.
const FIRST_CLIENT: usize = 2;

/// A running control socket. It ends when this value is dropped.
#[derive(Debug)]
pub struct ControlServer {
    path: PathBuf,
    identity: FileIdentity,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    waker: Waker,
    stop: AtomicBool,
}

/// A request that waits for its reply.
#[derive(Debug)]
pub struct IncomingRequest {
    /// The request.
    pub request: Request,
    /// Where the reply goes.
    pub reply: ReplyHandle,
}

/// The client that waits for a reply. If this value is dropped, the client receives an error.
#[derive(Debug)]
pub struct ReplyHandle {
    client: usize,
    replies: Sender<(usize, Reply)>,
    shared: Arc<Shared>,
    is_sent: bool,
}

impl ReplyHandle {
    /// Sends the reply. A client that has left is ignored.
    pub fn send(mut self, reply: Reply) {
        self.deliver(reply);
    }

    fn deliver(&mut self, reply: Reply) {
        self.is_sent = true;
        let _ = self.replies.send((self.client, reply));
        let _ = self.shared.waker.wake();
    }
}

impl Drop for ReplyHandle {
    fn drop(&mut self) {
        if !self.is_sent {
            self.deliver(Reply::error(ErrorCode::Failed, "the recorder ends"));
        }
    }
}

impl ControlServer {
    /// Starts the thread. It calls `notify` after each request that it sends to the returned
    /// receiver, which holds at most 16 requests.
    ///
    /// # Errors
    /// When the thread or its file descriptors cannot be created.
    pub fn start(
        socket: ControlSocket,
        notify: impl Fn() + Send + 'static,
    ) -> io::Result<(Self, Receiver<IncomingRequest>)> {
        let poll = Poll::new()?;
        let shared =
            Arc::new(Shared { waker: Waker::new(poll.registry(), WAKER)?, stop: AtomicBool::new(false) });
        let mut listener = UnixListener::from_std(socket.listener.try_clone()?);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let (requests, incoming) = channel();
        let (replies_in, replies) = channel();
        let (path, identity) = (socket.path().to_owned(), socket.identity);
        let state = ServerThread {
            registry: poll.registry().try_clone()?,
            socket,
            listener,
            clients: BTreeMap::new(),
            next_client: FIRST_CLIENT,
            accept_at: None,
            requests,
            replies_in,
            replies,
            shared: shared.clone(),
            notify,
        };
        let thread = thread::Builder::new().name("pmon-control".into()).spawn(move || state.run(poll))?;
        Ok((Self { path, identity, shared, thread: Some(thread) }, incoming))
    }

    /// Returns the path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the socket still has its name, so that clients find it.
    pub fn is_reachable(&self) -> bool {
        identity_of(&self.path) == Some(self.identity)
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = self.shared.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct ServerThread<N> {
    registry: Registry,
    socket: ControlSocket,
    listener: UnixListener,
    clients: BTreeMap<usize, Connection<UnixStream>>,
    next_client: usize,
    /// When to try to accept again after a failure.
    accept_at: Option<Instant>,
    requests: Sender<IncomingRequest>,
    replies_in: Sender<(usize, Reply)>,
    replies: Receiver<(usize, Reply)>,
    shared: Arc<Shared>,
    notify: N,
}

impl<N: Fn()> ServerThread<N> {
    fn run(mut self, mut poll: Poll) {
        let _ = setpriority_process(Some(gettid()), NICE);
        let mut events = Events::with_capacity(MAX_CLIENTS + 2);
        loop {
            let next = self.advance_all();
            let timeout = next.map(|next| next.saturating_duration_since(Instant::now()));
            match poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
                _ => {}
            }
            if self.shared.stop.load(Ordering::Acquire) {
                return self.send_last_replies();
            }
            for event in &events {
                self.handle(event);
            }
            self.receive_replies();
            if self.accept_at.is_some_and(|at| at <= Instant::now()) {
                self.accept();
            }
        }
    }

    /// Serves all clients, and returns when the next one must be served even if nothing happens.
    fn advance_all(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let mut next = self.accept_at;
        let mut closed = Vec::new();
        for (&number, client) in &mut self.clients {
            match client.advance(now) {
                Step::Wait(until) => next = next.into_iter().chain(until).min(),
                Step::Close => closed.push(number),
                Step::Handle(request) => {
                    let reply = ReplyHandle {
                        client: number,
                        replies: self.replies_in.clone(),
                        shared: self.shared.clone(),
                        is_sent: false,
                    };
                    // If the recorder has ended, dropping the request replies to it.
                    let _ = self.requests.send(IncomingRequest { request, reply });
                    (self.notify)();
                }
            }
        }
        closed.into_iter().for_each(|number| self.remove(number));
        next
    }

    fn handle(&mut self, event: &Event) {
        match event.token() {
            // After a burst or a failure, clients wait for the next attempt.
            LISTENER if self.accept_at.is_none() => self.accept(),
            LISTENER => {}
            WAKER => {}
            // Both directions are closed, so the client cannot receive its reply. What it has sent
            // before is still read.
            Token(number) if event.is_read_closed() && event.is_write_closed() => {
                if self.clients.get(&number).is_some_and(Connection::is_in_progress) {
                    self.remove(number);
                }
            }
            Token(_) => {}
        }
    }

    fn receive_replies(&mut self) {
        let now = Instant::now();
        while let Ok((number, reply)) = self.replies.try_recv() {
            if let Some(client) = self.clients.get_mut(&number) {
                client.reply(&reply, now);
            }
        }
    }

    fn accept(&mut self) {
        self.accept_at = None;
        for _ in 0..ACCEPTS {
            match self.listener.accept() {
                Ok((stream, _)) => self.add(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The connection stays in the backlog, for which the kernel reports no new event.
                Err(_) => break,
            }
        }
        self.accept_at = Some(Instant::now() + ACCEPT_RETRY);
    }

    fn add(&mut self, stream: UnixStream) {
        if self.clients.len() >= MAX_CLIENTS {
            // Clients that have left make room.
            self.advance_all();
        }
        let now = Instant::now();
        let mut client = Connection::new(stream, now);
        let refusal = if !self.socket.permits(&client.stream) {
            Some((ErrorCode::Forbidden, "only root, the recorder's user and the socket's group may use it"))
        } else if self.clients.len() >= MAX_CLIENTS {
            Some((ErrorCode::Busy, "too many clients are connected; try again later"))
        } else {
            None
        };
        if let Some((code, message)) = refusal {
            // The empty buffer of a new socket has room for the line.
            client.close_with(&Reply::error(code, message), now);
            client.advance(now);
            return;
        }
        let number = self.next_client;
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.registry.register(&mut client.stream, Token(number), interest).is_ok() {
            self.next_client += 1;
            self.clients.insert(number, client);
        }
    }

    fn remove(&mut self, number: usize) {
        if let Some(mut client) = self.clients.remove(&number) {
            let _ = self.registry.deregister(&mut client.stream);
        }
    }

    /// Passes on the replies that were sent before the end.
    fn send_last_replies(&mut self) {
        self.receive_replies();
        let now = Instant::now();
        for client in self.clients.values_mut() {
            let _ = client.advance(now);
        }
    }
}
