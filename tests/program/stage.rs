//! Where the clients are built, and how they are run under replay.

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

use crate::day::Day;
pub(crate) use crate::guard::skip;
use crate::support::{self, RunOutput};

/// A user who may do nothing.
const NOBODY: u32 = 65534;

/// How each client is compiled; one a second time, without a loader.
const CC: &[&str] = &["-std=gnu11", "-O1", "-Wall", "-Wextra", "-pthread"];
const STATIC: &str = "static";

/// The folder of the programs, which anybody may run: `pmon`, the clients, and the scripts.
pub(crate) struct Stage(PathBuf);

/// The stage, built by the first who asks; `None` without a compiler, which is said.
pub(crate) fn stage() -> Option<&'static Stage> {
    static STAGE: OnceLock<Option<Stage>> = OnceLock::new();
    let stage =
        STAGE.get_or_init(|| Command::new("cc").arg("--version").output().ok().map(|_| Stage::build()));
    if stage.is_none() {
        skip("there is no `cc`");
    }
    stage.as_ref()
}

impl Stage {
    fn build() -> Self {
        // What tests write is for that ordinary user to read.
        umask(Mode::from_raw_mode(0o022));
        let dir = TempDir::new().unwrap().keep();
        remove_at_exit(&dir);
        allow(&dir, 0o755);
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
        compilers.push(compile(&sources.join("receive.c"), &["-static"], &dir.join(STATIC)));
        for mut compiler in compilers {
            assert!(compiler.wait().unwrap().success(), "a client does not compile");
        }
        Self(dir)
    }

    /// A program's path.
    pub(crate) fn path(&self, name: &str) -> String {
        support::arg(&self.0.join(name))
    }
}

fn compile(source: &Path, options: &[&str], program: &Path) -> Child {
    Command::new("cc").args(CC).args(options).arg("-o").arg(program).arg(source).spawn().unwrap()
}

/// The folder goes when this process does, however it ends: then the pipe to a shell that waits is closed.
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

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A run of a program on the fake kernel: options of `pmon replay`, and the program.
pub(crate) struct Replay {
    stage: &'static Stage,
    dir: TempDir,
    options: Vec<String>,
    under: Vec<String>,
    is_root: bool,
}

impl Replay {
    /// A replay of the day; `None` where nothing can be built, which is said.
    pub(crate) fn of(day: &Day) -> Option<Self> {
        let stage = stage()?;
        let dir = TempDir::new().unwrap();
        allow(dir.path(), 0o777);
        let capture = dir.path().join("day.pmon");
        fs::write(&capture, day.bytes()).unwrap();
        allow(&capture, 0o644);
        let replay = Self { stage, dir, options: Vec::new(), under: Vec::new(), is_root: false };
        match replay.forbidden() {
            Some(why) => {
                skip(why);
                None
            }
            None => Some(replay),
        }
    }

    /// Why this system does not allow a replay into a program.
    fn forbidden(&self) -> Option<&'static str> {
        static WHY: OnceLock<Option<String>> = OnceLock::new();
        let tried = WHY.get_or_init(|| {
            let ran = self.program("true", &[], false);
            if ran.code != Some(6) {
                return None;
            }
            // It is believed if others are not allowed it either. Whether calls can be intercepted nobody else says.
            let mut other = Command::new("unshare");
            other.args(["-U", "-r", "-m", "-p", "-f", "--mount-proc", "true"]);
            if geteuid().is_root() {
                other.uid(NOBODY).gid(NOBODY);
            }
            let is_allowed = support::start(other).wait().is_ok_and(|status| status.success());
            assert!(
                !is_allowed || ran.err.contains("intercept"),
                "others are allowed what it is not: {ran:#?}"
            );
            Some(ran.err.trim_end().to_owned())
        });
        tried.as_deref()
    }

    pub(crate) fn with(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|&option| option.to_owned()));
        self
    }

    /// Started by that program, which is told what to start behind its arguments.
    pub(crate) fn under(mut self, program: &[&str]) -> Self {
        self.under = program.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// By root, if that is who runs the tests.
    pub(crate) fn by_root(mut self) -> Self {
        self.is_root = true;
        self
    }

    /// Where a client is, for others to run it.
    pub(crate) fn path(&self, client: &str) -> String {
        self.stage.path(client)
    }

    /// A file beside the capture, which the program may write.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a client; see [`Self::program`].
    pub(crate) fn client(&self, client: &str, args: &[&str]) -> RunOutput {
        self.program(&self.stage.path(client), args, true)
    }

    /// Runs a script of that interpreter.
    pub(crate) fn script(&self, interpreter: &str, script: &str, args: &[&str]) -> RunOutput {
        self.program(interpreter, &[&[&*self.stage.path(script)], args].concat(), true)
    }

    /// Runs a program, as an ordinary user if nothing else is said. If it does not mind another argument, no process that was given one may be left
    /// behind. What it prints goes to files: of a pipe, whoever is left behind would keep the other end.
    pub(crate) fn program(&self, program: &str, args: &[&str], is_marked: bool) -> RunOutput {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let mark = format!("run-{}-{run}", std::process::id());
        let pmon = self.stage.path("pmon");
        let line: Vec<&str> = self.under.iter().map(|word| &**word).chain([&*pmon]).collect();
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).arg("replay").arg(self.file("day.pmon")).args(&self.options);
        command.arg("--").arg(program).args(args).args(is_marked.then_some(&mark));
        command.env("TZ", "UTC").env("NO_COLOR", "1").current_dir(self.dir.path());
        if geteuid().is_root() && !self.is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        let [out, err] = ["out", "err"].map(|name| self.file(&format!("{name}-{run}")));
        command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let status = support::start(command).wait().unwrap();
        let left = left_behind(&mark);
        let [stdout, stderr] = [out, err].map(|path| fs::read(path).unwrap());
        let ran = RunOutput::new(Output { status, stdout, stderr });
        assert!(left.is_empty(), "left behind {left:?}: {ran:#?}");
        ran
    }
}

/// The command lines in which that argument stands, of processes that are ended.
fn left_behind(mark: &str) -> Vec<String> {
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
