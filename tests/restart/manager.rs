//! A service manager that keeps descriptors, as systemd does (`sd_notify(3)`,
//! `sd_pid_notify_with_fds(3)`, `sd_listen_fds(3)`).

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pmon_testkit::programs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags,
    SocketType, bind, recvmsg, socket_with,
};
use rustix::process::{Pid, Signal, kill_process};

/// Maximum time until a recorder is ready.
const MAX_START: Duration = Duration::from_secs(30);

/// A service manager, its service, and the descriptors that it keeps.
pub(crate) struct Manager {
    socket: OwnedFd,
    address: String,
    program: PathBuf,
    /// Arguments before those that a test can change.
    fixed_arguments: Vec<PathBuf>,
    arguments: Vec<String>,
    pub(crate) kept: Vec<(String, OwnedFd)>,
    service: Option<Child>,
    /// The file that receives the messages of the service, if they are tested.
    log: Option<PathBuf>,
}

impl Manager {
    /// Creates a service manager for the recorder `restarts`, which writes into this directory.
    pub(crate) fn new(directory: &Path, arguments: &[&str]) -> Self {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).unwrap();
        let address = format!("pmon-restart-{}-{}", std::process::id(), directory.display());
        bind(&socket, &SocketAddrUnix::new_abstract_name(address.as_bytes()).unwrap()).unwrap();
        Self {
            socket,
            address: format!("@{address}"),
            program: programs::tool("restarts"),
            fixed_arguments: vec![directory.into()],
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            kept: Vec::new(),
            service: None,
            log: None,
        }
    }

    /// Creates a service manager for `pmon record --store` of this directory.
    pub(crate) fn of_store(directory: &Path) -> Self {
        let mut this = Self::new(directory, &[]);
        this.program = programs::pmon();
        this.fixed_arguments = ["record", "-q", "--store"].map(PathBuf::from).into();
        this.fixed_arguments.push(directory.into());
        this
    }

    /// Makes the service a copy of the recorder's program, so that a test can replace its file.
    pub(crate) fn copy_program(&mut self, path: &Path) {
        std::fs::copy(&self.program, path).unwrap();
        self.program = path.into();
    }

    /// Sets the service's arguments for its next start.
    pub(crate) fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    }

    /// Makes the service write its messages to a file from its next start on.
    pub(crate) fn log_to(&mut self, path: &Path) {
        self.log = Some(path.into());
    }

    /// Starts the service, passes the kept descriptors on, and waits until it is ready. Returns its
    /// status.
    #[track_caller]
    pub(crate) fn start(&mut self) -> String {
        // The shell has the service's process id before the service runs, and gives the descriptors
        // their numbers.
        let mut script = String::from("LISTEN_PID=$$ exec \"$@\"");
        let mut names = Vec::new();
        let passed: Vec<_> = self
            .kept
            .iter()
            .map(|(_, fd)| {
                // Beyond the numbers that the shell uses.
                let copy = rustix::io::fcntl_dupfd_cloexec(fd, 100).unwrap();
                fcntl_setfd(&copy, FdFlags::empty()).unwrap();
                copy
            })
            .collect();
        for (number, ((name, _), fd)) in (3..).zip(self.kept.iter().zip(&passed)) {
            let fd = fd.as_raw_fd();
            script.push_str(&format!(" {number}<&{fd} {fd}<&-"));
            names.push(name.clone());
        }
        let mut command = Command::new("bash");
        command
            .args(["-c", &script, "bash"])
            .arg(&self.program)
            .args(&self.fixed_arguments)
            .args(&self.arguments);
        command.env("NOTIFY_SOCKET", &self.address).env("LISTEN_FDS", names.len().to_string());
        command.env("LISTEN_FDNAMES", names.join(":")).stdin(Stdio::null());
        if let Some(log) = &self.log {
            command.stderr(std::fs::File::create(log).unwrap());
        }
        self.service = Some(command.spawn().unwrap());
        self.wait_until_ready()
    }

    /// Waits until the service is ready, and returns its status.
    #[track_caller]
    pub(crate) fn wait_until_ready(&mut self) -> String {
        loop {
            let message = self.receive(MAX_START).expect("the recorder is ready in time");
            if message.contains("READY=1") {
                return field(&message, "STATUS=").unwrap_or_default().to_owned();
            }
        }
    }

    /// Returns the next message; `None` if there is none in time.
    #[track_caller]
    pub(crate) fn receive(&mut self, timeout: Duration) -> Option<String> {
        let timeout = Timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos().into() };
        let mut readable = [PollFd::new(&self.socket, PollFlags::IN)];
        if rustix::io::retry_on_intr(|| poll(&mut readable, Some(&timeout))).unwrap() == 0 {
            return None;
        }
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
        let message = String::from_utf8_lossy(&bytes[..received.unwrap().bytes]).into_owned();
        let name = field(&message, "FDNAME=").unwrap_or("stored").to_owned();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = part
                && message.contains("FDSTORE=1")
            {
                self.kept.extend(descriptors.map(|fd| (name.clone(), fd)));
            }
        }
        if message.contains("FDSTOREREMOVE=1") {
            self.kept.retain(|(other, _)| *other != name);
        }
        Some(message)
    }

    /// Swaps the names of two kept descriptors.
    #[track_caller]
    pub(crate) fn swap(&mut self, one: &str, other: &str) {
        for (name, _) in &mut self.kept {
            if name == one {
                *name = other.to_owned();
            } else if name == other {
                *name = one.to_owned();
            }
        }
    }

    /// Replaces a kept descriptor by another one, or drops it.
    #[track_caller]
    pub(crate) fn replace(&mut self, name: &str, by: Option<OwnedFd>) {
        let before = self.kept.len();
        self.kept.retain(|(other, _)| other != name);
        assert_eq!(self.kept.len() + 1, before, "{name} is kept");
        self.kept.extend(by.map(|fd| (name.to_owned(), fd)));
    }

    /// Sends a signal to the service.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.service.as_ref().expect("a service").id();
        kill_process(Pid::from_raw(id as i32).unwrap(), signal).unwrap();
    }

    /// Ends the service by a signal.
    #[track_caller]
    pub(crate) fn end(&mut self, signal: Signal) {
        self.signal(signal);
        let status = self.service.take().expect("a service").wait().unwrap();
        assert!(signal == Signal::KILL || status.success(), "{status}");
    }

    /// Returns the process id of the service.
    pub(crate) fn service_id(&self) -> u32 {
        self.service.as_ref().expect("a service").id()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(service) = &mut self.service {
            let _ = service.kill();
            let _ = service.wait();
        }
    }
}

/// Sleeps until a time.
pub(crate) fn sleep_until(time: Instant) {
    std::thread::sleep(time.saturating_duration_since(Instant::now()));
}

/// Returns the rest of the line that begins with `name`.
fn field<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.lines().find_map(|line| line.strip_prefix(name))
}
