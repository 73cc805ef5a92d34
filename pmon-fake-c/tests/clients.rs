//! C programs that use the library.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use pmon_testkit::guard::{Need, needs, skip};
use tempfile::TempDir;

/// The exit code of a client where this system allows no netlink sockets.
const SKIPPED: i32 = 77;
const CFLAGS: &[&str] = &["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"];

/// Returns the directory of `libpmon_fake.so` and `libpmon_fake.a`.
///
/// Cargo does not build these for a test of their package: the first call does, in the profile and
/// the build directory of this test. A test that cargo did not start uses what it finds.
fn library_directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let directory = test.ancestors().nth(2).expect("cargo's build directory");
        if let Some(cargo) = std::env::var_os("CARGO") {
            let profile = match directory.file_name().and_then(OsStr::to_str) {
                Some("debug") | None => "dev",
                Some(profile) => profile,
            };
            let mut command = Command::new(cargo);
            command.args(["build", "--quiet", "--package", "pmon-fake-c", "--profile", profile]);
            command.arg("--target-dir").arg(directory.parent().unwrap());
            let status = command.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
            assert!(status.success(), "the library does not compile");
        }
        directory.to_owned()
    })
}

/// Compiles a program; `link` selects the library. Skips the test and returns `None` without the
/// compiler.
fn compile(compiler: &str, source: &Path, options: &[&str], link: &[&OsStr], program: &Path) -> Option<()> {
    if Command::new(compiler).arg("--version").output().is_err() {
        skip(&format!("there is no `{compiler}`"));
        return None;
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(compiler);
    command.args(options).arg("-I").arg(package.join("include"));
    command.arg(concat!("-DVERSION=\"", env!("CARGO_PKG_VERSION"), "\""));
    let status = command.arg(source).arg("-o").arg(program).args(link).status().unwrap();
    assert!(status.success(), "{} does not compile", source.display());
    Some(())
}

/// Compiles a client with the shared library.
fn client(name: &str, directory: &TempDir) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name).with_extension("c");
    compile_shared(&source, directory)
}

/// Compiles a program with the shared library.
fn compile_shared(source: &Path, directory: &TempDir) -> Option<PathBuf> {
    let program = directory.path().join("program");
    let libraries = library_directory();
    let mut rpath = std::ffi::OsString::from("-Wl,-rpath,");
    rpath.push(libraries);
    let link = [OsStr::new("-L"), libraries.as_os_str(), OsStr::new("-lpmon_fake"), &rpath];
    compile("cc", source, CFLAGS, &link, &program)?;
    Some(program)
}

fn report(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a program to its end; skips the test if the program does.
fn run(program: &Path) {
    let output = Command::new(program).output().unwrap();
    if output.status.code() == Some(SKIPPED) {
        return skip(&report(&output));
    }
    assert!(output.status.success(), "{}: {}\n{}", program.display(), output.status, report(&output));
}

fn test_client(name: &str) {
    let directory = TempDir::new().unwrap();
    if let Some(program) = client(name, &directory) {
        run(&program);
    }
}

#[test]
fn each_call_of_a_process_emits_its_events_and_every_way_to_wait_reports_them() {
    test_client("events");
}

#[test]
fn a_program_subscribes_itself_and_requests_precede_the_next_call() {
    test_client("requests");
}

#[test]
fn overruns_return_enobufs_before_what_is_queued_and_leave_a_gap() {
    test_client("losses");
}

#[test]
fn a_pair_shows_an_overrun_by_a_gap_and_has_an_end_of_file() {
    test_client("pair");
}

#[test]
fn each_error_is_a_negative_errno_and_a_text() {
    test_client("errors");
}

#[test]
fn several_threads_use_a_kernel_at_once() {
    test_client("threads");
}

#[test]
fn children_and_signals_of_the_caller_are_undisturbed() {
    test_client("processes");
}

#[test]
fn without_user_namespaces_the_reason_is_reported_and_a_pair_is_used_if_allowed() {
    const NO_NAMESPACES: &str = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\"";
    let probe = ["unshare", "-U", "-r", "sh", "-c", NO_NAMESPACES, "true"];
    if !needs(&[Need::Command("user namespaces", &probe)]) {
        return;
    }
    let directory = TempDir::new().unwrap();
    let Some(program) = client("fallback", &directory) else { return };
    let output =
        Command::new("unshare").args(["-U", "-r", "sh", "-c", NO_NAMESPACES]).arg(&program).output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, report(&output));
}

#[test]
fn a_program_can_be_linked_statically() {
    let directory = TempDir::new().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/losses.c");
    let program = directory.path().join("static");
    let library = library_directory().join("libpmon_fake.a");
    if compile("cc", &source, CFLAGS, &[library.as_os_str(), OsStr::new("-lm")], &program).is_some() {
        run(&program);
    }
}

#[test]
fn the_header_is_valid_in_old_c_and_in_cpp() {
    let directory = TempDir::new().unwrap();
    let object = directory.path().join("object");
    for (compiler, standard, name) in [("cc", "-std=c99", "header.c"), ("c++", "-std=c++11", "header.cc")] {
        let source = directory.path().join(name);
        fs::write(&source, "#include \"pmon_fake.h\"\nint main(void) { return pmon_fake_version() == 0; }\n")
            .unwrap();
        let options = [standard, "-Wall", "-Wextra", "-pedantic", "-Werror", "-c"];
        if compile(compiler, &source, &options, &[], &object).is_none() {
            return;
        }
    }
}

#[test]
fn the_manual_shows_a_test_that_passes() {
    let manual = include_str!("../../docs/testing-c.md");
    let directory = TempDir::new().unwrap();
    let mut files = Vec::new();
    for block in manual.split("```c\n").skip(1) {
        let (code, _) = block.split_once("```").expect("the end of the block");
        // Each block begins with the name of its file.
        let name = code.strip_prefix("/* ").and_then(|code| code.split([':', ' ']).next()).expect("a name");
        fs::write(directory.path().join(name), code).unwrap();
        files.push(name);
    }
    assert_eq!(files, ["monitor.c", "test.c"]);
    if let Some(program) = compile_shared(&directory.path().join("test.c"), &directory) {
        run(&program);
    }
}
