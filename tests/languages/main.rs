//! The pages `docs/testing-LANGUAGE.md` are executed: their programs and tests run as shown.

mod page;

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pmon_testkit::guard::skip;
use pmon_testkit::{programs, support};
use tempfile::TempDir;

/// Returns whether a command succeeds.
fn succeeds(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Returns whether this system allows `pmon replay` to run programs; otherwise skips the test.
fn runs_programs() -> bool {
    let dir = TempDir::new().unwrap();
    let capture = support::arg(&dir.path().join("small.pmon"));
    support::pmon(&["synth", "-q", "-n", "10", "-o", &capture]).expect(0);
    let ran = support::pmon(&["replay", &capture, "--", "true"]);
    if ran.code == Some(6) {
        skip(&ran.err);
    }
    ran.code != Some(6)
}

/// A directory for a page, with `pmon` and wrappers of programs first on the path.
struct Workplace(TempDir);

impl Workplace {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        let this = Self(dir);
        this.add_program("pmon", &programs::pmon());
        this
    }

    /// Makes a program available by this name.
    fn add_program(&self, name: &str, program: &Path) {
        let path = self.0.path().join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\nexec '{}' \"$@\"\n", program.display())).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }

    /// Executes a page of the documentation.
    #[track_caller]
    fn execute(&self, page: &str, variables: &[(&str, &str)]) {
        let page = fs::read_to_string(root().join("docs").join(page)).unwrap();
        let path = format!("{}:{}", self.0.path().join("bin").display(), env::var("PATH").unwrap());
        let variables = [&[("PATH", &*path)], variables].concat();
        page::execute(&page, &self.0.path().join("work"), &variables);
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns a Python interpreter that has pytest; otherwise skips the test.
fn python() -> Option<PathBuf> {
    let found =
        ["python3", "/usr/bin/python3"].into_iter().find(|python| succeeds(python, &["-c", "import pytest"]));
    if found.is_none() {
        skip("there is no `python3` with pytest");
    }
    let output = Command::new(found?).args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end()))
}

/// Variables with which pytest loads the plugin from the sources, and leaves no files there.
fn pytest_variables() -> [(&'static str, &'static str); 4] {
    [
        ("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/pytest-pmon/src")),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"),
        ("PYTEST_ADDOPTS", "-p pytest_pmon.plugin -p no:cacheprovider"),
    ]
}

#[test]
fn the_page_on_python_runs_as_shown() {
    let Some(python) = python() else { return };
    if !runs_programs() {
        return;
    }
    let workplace = Workplace::new();
    workplace.add_program("python3", &python);
    workplace.execute("testing-python.md", &pytest_variables());
}

#[test]
fn the_tests_of_the_pytest_plugin_pass() {
    let Some(python) = python() else { return };
    if !runs_programs() {
        return;
    }
    let mut command = Command::new(python);
    command.args(["-m", "pytest", "-q", "tests"]).current_dir(root().join("contrib/pytest-pmon"));
    command.envs(pytest_variables()).env("PMON", programs::pmon()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && out.contains(" passed") && !out.contains("skipped"), "{out}");
}

#[test]
fn the_page_on_go_runs_as_shown() {
    if !succeeds("go", &["version"]) {
        return skip("there is no `go`");
    }
    if runs_programs() {
        Workplace::new().execute("testing-go.md", &[]);
    }
}

#[test]
fn the_page_on_shell_scripts_runs_as_shown() {
    for program in ["make", "forkstat"] {
        if !succeeds("sh", &["-c", "command -v \"$0\"", program]) {
            return skip(&format!("there is no `{program}`"));
        }
    }
    if runs_programs() {
        Workplace::new().execute("testing-shell.md", &[]);
    }
}

#[test]
fn the_page_on_node_runs_as_shown() {
    for (module, why) in [("fs", "there is no `node`"), ("koffi", "there is no `koffi` in NODE_PATH")] {
        if !succeeds("node", &["-e", &format!("require({module:?})")]) {
            return skip(why);
        }
    }
    if runs_programs() {
        Workplace::new().execute("testing-node.md", &[]);
    }
}
