//! Builds the clients and runs them under replay.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::Mode;
use rustix::process::{Pid, Signal, geteuid, kill_process, umask};
use tempfile::TempDir;

pub(crate) use crate::guard::skip;
use crate::support::{self, RunOutput};
use crate::test_capture::TestCapture;

/// Name of the capture in the working directory.
pub(crate) const CAPTURE: &str = "test.pmon";
/// An unprivileged user.
const NOBODY: u32 = 65534;

/// Whether these tests run on native sockets: `tests/program_native.rs` is the same code.
pub(crate) const IS_NATIVE: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"program_native");

/// Options for all clients.
const CFLAGS: &[&str] = &["-std=gnu11", "-O1", "-Wall", "-Wextra", "-pthread"];
/// The statically linked builds: each source and the name of its program.
const STATIC: [(&str, &str); 2] = [("receive.c", "static"), ("clocks.c", "static-clocks")];

/// A directory with `pmon`, the clients and the scripts, executable by all users.
pub(crate) struct Programs(PathBuf);

/// Returns the programs, built by the first call. Skips the test and returns `None` without a
/// compiler.
pub(crate) fn programs() -> Option<&'static Programs> {
    static PROGRAMS: OnceLock<Option<Programs>> = OnceLock::new();
    let programs =
        PROGRAMS.get_or_init(|| Command::new("cc").arg("--version").output().ok().map(|_| Programs::build()));
    if programs.is_none() {
        skip("there is no `cc`");
    }
    programs.as_ref()
}

impl Programs {
    fn build() -> Self {
        // The unprivileged user must be able to read the files that tests write.
        umask(Mode::from_raw_mode(0o022));
        let dir = TempDir::new().unwrap().keep();
        remove_at_exit(&dir);
        set_mode(&dir, 0o755);
        support::copy_program(env!("CARGO_BIN_EXE_pmon"), &dir.join("pmon"));
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/clients");
        let mut compilers = Vec::new();
        for source in fs::read_dir(&sources).unwrap().map(|entry| entry.unwrap().path()) {
            let name = source.file_stem().unwrap().to_str().unwrap();
            match source.extension().and_then(|extension| extension.to_str()) {
                Some("c") => compilers.push(compile(&source, &[], &dir.join(name))),
                Some("py" | "pl") => drop(fs::copy(&source, dir.join(source.file_name().unwrap())).unwrap()),
                _ => {}
            }
        }
        for (source, name) in STATIC {
            compilers.push(compile(&sources.join(source), &["-static"], &dir.join(name)));
        }
        for mut compiler in compilers {
            assert!(compiler.wait().unwrap().success(), "a client does not compile");
        }
        Self(dir)
    }

    /// Builds a 32-bit program from a client's source. Returns its path; `None` if the compiler
    /// cannot build 32-bit programs, or lacks the library for them.
    pub(crate) fn build_32_bit(&self, source: &str, options: &[&str], name: &str) -> Option<String> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/clients").join(source);
        let mut compiler = Command::new("cc");
        compiler.args(CFLAGS).arg("-m32").args(options).arg("-o").arg(self.0.join(name)).arg(source);
        let is_built = cfg!(target_arch = "x86_64") && compiler.output().unwrap().status.success();
        is_built.then(|| self.path(name))
    }

    /// Returns the path of a program.
    pub(crate) fn path(&self, name: &str) -> String {
        support::arg(&self.0.join(name))
    }
}

fn compile(source: &Path, options: &[&str], program: &Path) -> Child {
    Command::new("cc").args(CFLAGS).args(options).arg("-o").arg(program).arg(source).spawn().unwrap()
}

/// Removes a directory when this process ends, even if it is killed: a shell waits until the pipe
/// to it closes.
fn remove_at_exit(dir: &Path) {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", r#"read -r _; rm -rf "$0""#])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    shell.process_group(0);
    std::mem::forget(shell.spawn().unwrap());
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Runs programs with `pmon replay FILE -- PROGRAM`.
pub(crate) struct ProgramReplay {
    programs: &'static Programs,
    dir: TempDir,
    /// Options of `pmon replay`.
    options: Vec<String>,
    /// A command that starts `pmon`.
    launcher: Vec<String>,
    is_root: bool,
    /// Value of `--sockets`.
    sockets: &'static str,
}

impl ProgramReplay {
    /// Replays a capture. Skips the test and returns `None` without a compiler, or where this
    /// system does not allow it.
    pub(crate) fn of(capture: &TestCapture) -> Option<Self> {
        let programs = programs()?;
        let dir = TempDir::new().unwrap();
        set_mode(dir.path(), 0o777);
        let path = dir.path().join(CAPTURE);
        fs::write(&path, capture.bytes()).unwrap();
        set_mode(&path, 0o644);
        let replay = Self {
            programs,
            dir,
            options: Vec::new(),
            launcher: Vec::new(),
            is_root: false,
            sockets: if IS_NATIVE { "native" } else { "seccomp" },
        };
        match replay.refusal() {
            Some(why) => {
                skip(why);
                None
            }
            None => Some(replay),
        }
    }

    /// Returns the reason why this system does not allow programs to be run.
    fn refusal(&self) -> Option<&'static str> {
        static REFUSAL: OnceLock<Option<String>> = OnceLock::new();
        let refusal = REFUSAL.get_or_init(|| {
            let ran = self.program("true", &[], false);
            if ran.code != Some(6) {
                return None;
            }
            if ran.err.contains("native sockets") {
                return Some(ran.err.trim_end().to_owned());
            }
            // `unshare` must be refused, too. No other program shows whether calls can be
            // intercepted.
            let mut other = Command::new("unshare");
            other.args(["-U", "-r", "-m", "-p", "-f", "--mount-proc", "true"]);
            if geteuid().is_root() {
                other.uid(NOBODY).gid(NOBODY);
            }
            let is_allowed = support::start(other).wait().is_ok_and(|status| status.success());
            assert!(
                !is_allowed || ran.err.contains("intercept"),
                "unshare is allowed, but pmon is refused: {ran:#?}"
            );
            Some(ran.err.trim_end().to_owned())
        });
        refusal.as_deref()
    }

    /// Adds options of `pmon replay`.
    pub(crate) fn with(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|&option| option.to_owned()));
        // With these options and faults, there are no native sockets.
        let faults = options.iter().filter(|path| path.ends_with(".toml"));
        let faults: String =
            faults.filter_map(|path| fs::read_to_string(self.dir.path().join(path)).ok()).collect();
        if options.contains(&"eof")
            || ["eintr", "eagain", "truncate", "end = true"].iter().any(|fault| faults.contains(fault))
        {
            self.sockets = "auto";
        }
        self
    }

    /// Sets `--sockets`.
    pub(crate) fn on_sockets(mut self, sockets: &'static str) -> Self {
        self.sockets = sockets;
        self
    }

    /// Starts `pmon` by this command, to which the command line of `pmon` is appended.
    pub(crate) fn launched_by(mut self, command: &[&str]) -> Self {
        self.launcher = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Keeps root, if the tests run as root.
    pub(crate) fn with_root(mut self) -> Self {
        self.is_root = true;
        self
    }

    /// Returns the path of a client.
    pub(crate) fn path(&self, client: &str) -> String {
        self.programs.path(client)
    }

    /// Returns the path of a file in the program's working directory, which also contains the
    /// capture.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a client as [`Self::program`] does.
    pub(crate) fn client(&self, client: &str, args: &[&str]) -> RunOutput {
        self.program(&self.programs.path(client), args, true)
    }

    /// Runs a script as [`Self::program`] does.
    pub(crate) fn script(&self, interpreter: &str, script: &str, args: &[&str]) -> RunOutput {
        self.program(interpreter, &[&[&*self.programs.path(script)], args].concat(), true)
    }

    /// Runs a program, by default as an unprivileged user.
    ///
    /// With `is_marked`, the program gets an additional argument that identifies the run, and the
    /// test fails if a process with that argument is left behind. The output goes to files: a
    /// process left behind would keep a pipe open.
    pub(crate) fn program(&self, program: &str, args: &[&str], is_marked: bool) -> RunOutput {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let mark = format!("run-{}-{run}", std::process::id());
        let pmon = self.programs.path("pmon");
        let line: Vec<&str> = self.launcher.iter().map(|word| &**word).chain([&*pmon]).collect();
        let mut command = Command::new(line[0]);
        command
            .args(&line[1..])
            .args(["replay", "--sockets", self.sockets])
            .arg(self.file(CAPTURE))
            .args(&self.options);
        command.arg("--").arg(program).args(args).args(is_marked.then_some(&mark));
        command.env("TZ", "UTC").env("NO_COLOR", "1").current_dir(self.dir.path());
        if geteuid().is_root() && !self.is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        let [out, err] = ["out", "err"].map(|name| self.file(&format!("{name}-{run}")));
        command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let status = support::start(command).wait().unwrap();
        let left = kill_marked(&mark);
        let [stdout, stderr] = [out, err].map(|path| fs::read(path).unwrap());
        let ran = RunOutput::new(Output { status, stdout, stderr });
        assert!(left.is_empty(), "left behind {left:?}: {ran:#?}");
        ran
    }
}

/// Kills the processes that have `mark` as an argument; returns their command lines.
fn kill_marked(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if !line.split(|&byte| byte == 0).any(|arg| arg == mark.as_bytes()) {
            continue;
        }
        found.push(String::from_utf8_lossy(&line).into_owned());
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let _ = kill_process(pid.unwrap(), Signal::KILL);
    }
    found
}
