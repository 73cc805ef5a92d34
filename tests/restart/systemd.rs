//! An instance of systemd with one service, which is `pmon record --store`.
//!
//! It is a user's instance in a mount namespace with a `/run` of its own, so it needs no systemd as
//! process 1 and changes nothing of the system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use pmon_testkit::guard::Need;
use pmon_testkit::live::wait_until;
use pmon_testkit::programs;
use rustix::process::{Pid, Signal, kill_process};

/// What the system must have.
pub(crate) const NEED: Need<'static> = Need::Command(
    "services of `systemd`",
    &["sh", "-c", "test -x /usr/lib/systemd/systemd && systemctl --version && unshare --mount true"],
);

/// Becomes systemd, which refuses to start without the directory of the system's instance.
const START: &str = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system \
    && exec /usr/lib/systemd/systemd --user --log-target=null";

/// A running instance of systemd. Dropping it ends the service and systemd.
pub(crate) struct Systemd {
    process: Child,
    runtime: PathBuf,
}

impl Systemd {
    /// Starts systemd and its service, which records into `store`, and waits until the service is
    /// ready. systemd keeps its own files in `runtime`.
    #[track_caller]
    pub(crate) fn start(runtime: &Path, store: &Path) -> Self {
        // The unit of docs/store.md. Tests restart it more often than systemd permits by default.
        let unit = format!(
            "[Unit]\nStartLimitIntervalSec=0\n\n[Service]\nType=notify\nExecStart={} record --store {}\n\
             Restart=always\nRestartSec=0\nFileDescriptorStoreMax=16\n",
            programs::pmon().display(),
            store.display(),
        );
        let units = runtime.join("systemd/user");
        fs::create_dir_all(&units).unwrap();
        fs::write(units.join("pmon.service"), unit).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", START]).env("XDG_RUNTIME_DIR", runtime);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let this = Self { process: command.spawn().unwrap(), runtime: runtime.to_owned() };
        wait_until(|| this.systemctl(&["list-jobs"]).status.success());
        this.run("start");
        this
    }

    /// Does something with the service, such as `restart`, and waits until it is done.
    #[track_caller]
    pub(crate) fn run(&self, action: &str) {
        let output = self.systemctl(&[action, "pmon.service"]);
        assert!(output.status.success(), "{action}: {output:?}");
    }

    /// Returns a property of the service.
    pub(crate) fn property(&self, name: &str) -> String {
        let output = self.systemctl(&["show", "--value", "--property", name, "pmon.service"]);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Kills the recorder, and waits until systemd has started the next one.
    #[track_caller]
    pub(crate) fn kill(&self) {
        let id = self.property("MainPID");
        kill_process(Pid::from_raw(id.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        wait_until(|| self.property("MainPID") != id && self.property("ActiveState") == "active");
    }

    fn systemctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("systemctl");
        command.arg("--user").args(arguments).env("XDG_RUNTIME_DIR", &self.runtime);
        command.env_remove("DBUS_SESSION_BUS_ADDRESS").stdin(Stdio::null()).output().unwrap()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // It stops the service and exits.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let _ = self.process.wait();
    }
}
