//! The server on real sockets, with well-behaved and hostile clients.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::control::protocol::MAX_LINE;
use crate::control::server::MAX_CLIENTS;
use crate::control::socket::{connect, paths_for};
use crate::control::*;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A recorder that replies to every request, except to snapshots, which it keeps.
struct Recorder {
    directory: TempDir,
    server: Option<ControlServer>,
    snapshots: Arc<Mutex<Vec<ReplyHandle>>>,
}

impl Recorder {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = ControlSocket::bind(directory.path()).unwrap();
        let (server, requests) = ControlServer::start(socket, || {}).unwrap();
        let snapshots = Arc::new(Mutex::new(Vec::new()));
        let kept = snapshots.clone();
        thread::spawn(move || answer(&requests, &kept));
        Self { directory, server: Some(server), snapshots }
    }

    fn store(&self) -> &Path {
        self.directory.path()
    }

    fn stream(&self) -> UnixStream {
        let stream = connect(&self.store().join(".control")).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream
    }

    /// Waits until a request is answered. Other clients may take all places for a moment.
    fn wait_until_it_serves(&self) {
        wait_until(|| {
            match ControlClient::connect(self.store()).unwrap().request(&Request::Status, TIMEOUT) {
                Ok(Reply::Error { code: ErrorCode::Busy, .. }) => false,
                Ok(Reply::Status(_)) => true,
                reply => panic!("{reply:?}"),
            }
        });
    }
}

fn answer(requests: &Receiver<IncomingRequest>, kept: &Mutex<Vec<ReplyHandle>>) {
    for IncomingRequest { request, reply } in requests {
        match request {
            Request::Status => reply.send(Reply::Status(Box::default())),
            Request::Snapshot(_) => kept.lock().unwrap().push(reply),
            _ => reply.send(Reply::error(ErrorCode::Failed, "no")),
        }
    }
}

fn all(mut stream: UnixStream) -> String {
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

fn wait_until(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < TIMEOUT, "waited for {TIMEOUT:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_client_sends_several_requests_and_receives_its_replies() {
    let recorder = Recorder::start();
    let mut client = ControlClient::connect(recorder.store()).unwrap();
    for _ in 0..3 {
        assert!(matches!(client.request(&Request::Status, TIMEOUT), Ok(Reply::Status(_))));
        assert!(matches!(client.request(&Request::Rotate, TIMEOUT), Ok(Reply::Error { .. })));
    }
    let meta = fs::symlink_metadata(recorder.store().join(".control")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o660);
}

#[test]
fn hostile_clients_do_not_keep_others_from_being_served() {
    let recorder = Recorder::start();
    let stop = Arc::new(AtomicBool::new(false));
    let path = recorder.store().join(".control");
    let flood = thread::spawn({
        let (stop, path) = (stop.clone(), path.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                // Sends without reading, until the server disconnects the client.
                let mut stream = connect(&path).unwrap();
                stream.set_write_timeout(Some(Duration::from_millis(5))).unwrap();
                let mut flood = || stream.write_all(&b"{\"request\":\"status\"}\n".repeat(100));
                while !stop.load(Ordering::Relaxed)
                    && flood().err().is_none_or(|error| error.kind() == ErrorKind::WouldBlock)
                {
                }
            }
        }
    });
    let connections = thread::spawn({
        let (stop, path) = (stop.clone(), path.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = connect(&path).map(|mut stream| stream.write_all(b"{\"request"));
                // A shorter pause keeps the backlog of the socket full while the machine is busy.
                thread::sleep(Duration::from_millis(2));
            }
        }
    });
    let mut slow = recorder.stream();
    for _ in 0..3 {
        // If this takes long because the machine is busy, the server has disconnected the client.
        let _ = slow.write_all(b"{");
        wait_until(|| {
            let mut garbage = recorder.stream();
            let _ = garbage.write_all(b"\x00\xff\x1b[2J\n{\"request\":{}}\n");
            let _ = garbage.shutdown(Shutdown::Write);
            let replies = all(garbage);
            // Other clients may take all places for a moment.
            if replies.is_empty() || replies.contains("busy") {
                return false;
            }
            assert_eq!(replies.matches("bad_request").count(), 2, "{replies}");
            true
        });
        let mut huge = recorder.stream();
        let _ = huge.write_all(&vec![b'x'; 4 * MAX_LINE]);
        // Unread bytes make the kernel reset the connection, after the reply or before it is read.
        drop(huge);
        recorder.wait_until_it_serves();
    }
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    connections.join().unwrap();
    recorder.wait_until_it_serves();
}

#[test]
fn more_clients_than_the_maximum_are_refused_and_can_return_later() {
    let recorder = Recorder::start();
    let mut clients: Vec<_> = (0..MAX_CLIENTS).map(|_| recorder.stream()).collect();
    let refused = ControlClient::connect(recorder.store()).unwrap().request(&Request::Status, TIMEOUT);
    assert!(matches!(refused, Ok(Reply::Error { code: ErrorCode::Busy, .. })), "{refused:?}");
    clients.pop();
    recorder.wait_until_it_serves();
}

#[test]
fn a_reply_may_take_long_and_a_client_that_leaves_makes_room() {
    let recorder = Recorder::start();
    let line = Request::Snapshot(SnapshotRequest::default()).to_line();
    let mut waiting: Vec<_> = (0..MAX_CLIENTS).map(|_| recorder.stream()).collect();
    for stream in &mut waiting {
        stream.write_all(line.as_bytes()).unwrap();
        // A client that closed only its own side waits for the reply.
        stream.shutdown(Shutdown::Write).unwrap();
    }
    wait_until(|| recorder.snapshots.lock().unwrap().len() == MAX_CLIENTS);
    let first = waiting.remove(0);
    drop(waiting);
    recorder.wait_until_it_serves();
    let kept = std::mem::take(&mut *recorder.snapshots.lock().unwrap());
    for reply in kept {
        reply.send(Reply::error(ErrorCode::Failed, "the disk is full"));
    }
    assert!(all(first).contains("the disk is full"));
}

#[test]
fn requests_in_progress_are_answered_when_the_recorder_ends() {
    let mut recorder = Recorder::start();
    let mut stream = recorder.stream();
    stream.write_all(Request::Snapshot(SnapshotRequest::default()).to_line().as_bytes()).unwrap();
    wait_until(|| !recorder.snapshots.lock().unwrap().is_empty());
    recorder.snapshots.lock().unwrap().clear();
    drop(recorder.server.take());
    assert!(all(stream).contains("the recorder ends"));
    assert!(!recorder.store().join(".control").exists());
    let error = ControlClient::connect(recorder.store()).unwrap_err();
    assert!(matches!(error, ControlError::NoRecorder { .. }), "{error}");
}

#[test]
fn a_stale_socket_is_replaced_and_a_used_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".control");
    drop(UnixListener::bind(&path).unwrap());
    let socket = ControlSocket::bind(directory.path()).unwrap();
    let error = ControlSocket::bind(directory.path()).unwrap_err();
    assert!(error.to_string().contains("another process listens"), "{error}");
    drop(socket);
    assert!(!path.exists());
    fs::write(&path, "precious").unwrap();
    let error = ControlSocket::bind(directory.path()).unwrap_err();
    assert!(error.to_string().contains("is not a socket"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn the_socket_of_another_recorder_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".control");
    let first = ControlSocket::bind(directory.path()).unwrap();
    fs::remove_file(&path).unwrap();
    let _second = ControlSocket::bind(directory.path()).unwrap();
    drop(first);
    assert!(path.exists());
}

#[test]
fn a_store_may_have_a_path_of_any_length() {
    let directory = tempfile::tempdir().unwrap();
    let store: PathBuf = directory.path().join("a".repeat(200)).join("b".repeat(200));
    fs::create_dir_all(&store).unwrap();
    let socket = ControlSocket::bind(&store).unwrap();
    assert!(ControlSocket::bind(&store).is_err(), "it is in use");
    let (server, requests) = ControlServer::start(socket, || {}).unwrap();
    thread::spawn(move || answer(&requests, &Mutex::default()));
    let reply = ControlClient::connect(&store).unwrap().request(&Request::Status, TIMEOUT);
    assert!(matches!(reply, Ok(Reply::Status(_))), "{reply:?}");
    drop(server);
    assert!(!store.join(".control").exists());
}

#[test]
fn only_the_systems_store_has_its_socket_in_run() {
    let directory = tempfile::tempdir().unwrap();
    let [system, other, run] = ["system", "other", "run"].map(|name| directory.path().join(name));
    fs::create_dir(&system).unwrap();
    fs::create_dir(&other).unwrap();
    assert_eq!(paths_for(&other, &system, &run), [other.join(".control")]);
    let both = [run.join("control"), directory.path().join("link/.control")];
    std::os::unix::fs::symlink(&system, directory.path().join("link")).unwrap();
    assert_eq!(paths_for(&directory.path().join("link"), &system, &run), both);
    assert_eq!(paths_for(&directory.path().join("missing"), &system, &run).len(), 1);
}

#[test]
fn a_missing_store_and_a_missing_recorder_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let error = ControlClient::connect(directory.path()).unwrap_err();
    assert!(matches!(&error, ControlError::NoRecorder { .. }), "{error}");
    let error = ControlClient::connect(&directory.path().join("missing")).unwrap_err();
    assert!(matches!(&error, ControlError::NoStore { .. }), "{error}");
}

#[test]
fn a_server_that_is_not_pmon_cannot_exhaust_the_client() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join(".control")).unwrap();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            match number {
                0 => drop(stream.write_all(b"{\"reply\":\"party\"}\n")),
                1 => while stream.write_all(&[b'x'; 4096]).is_ok() {},
                2 => drop(stream),
                _ => thread::sleep(TIMEOUT),
            }
        }
    });
    let request = |timeout| {
        ControlClient::connect(directory.path()).unwrap().request(&Request::Status, timeout).unwrap_err()
    };
    assert!(matches!(request(TIMEOUT), ControlError::Malformed(_)));
    assert!(matches!(request(TIMEOUT), ControlError::Malformed(_)));
    assert!(matches!(request(TIMEOUT), ControlError::Closed));
    assert!(matches!(request(Duration::from_millis(50)), ControlError::Timeout(_)));
}

#[test]
fn the_credentials_of_a_client_are_those_of_its_process() {
    let directory = tempfile::tempdir().unwrap();
    let socket = ControlSocket::bind(directory.path()).unwrap();
    let client = connect(socket.path()).unwrap();
    let (stream, _) = socket.listener.accept().unwrap();
    assert!(socket.permits(&stream), "the recorder's own user");
    let own = fs::metadata("/proc/self").unwrap();
    let groups = crate::control::sys::peer_groups(std::os::fd::AsFd::as_fd(&stream));
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let expected = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
    let expected: Vec<u32> = expected.split_whitespace().map(|group| group.parse().unwrap()).collect();
    assert_eq!((own.uid(), groups), (rustix::process::geteuid().as_raw(), expected));
    assert_eq!(client.take_error().unwrap().map(|error| error.kind()), None::<ErrorKind>);
}
