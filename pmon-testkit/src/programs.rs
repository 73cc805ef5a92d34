//! Finds programs that cargo has built beside the running test.

use std::env;
use std::path::PathBuf;

/// Returns the path of the `pmon` command.
#[track_caller]
pub fn pmon() -> PathBuf {
    built("pmon", "cargo build")
}

/// Returns the path of a tool of the benches, such as `flood`.
#[track_caller]
pub fn tool(name: &str) -> PathBuf {
    built(&format!("examples/{name}"), "cargo build --examples")
}

/// Returns the path of a program below cargo's build directory of this profile.
#[track_caller]
fn built(name: &str, command: &str) -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    let directory = test.ancestors().nth(2).expect("cargo's build directory");
    let program = directory.join(name);
    assert!(program.exists(), "there is no {}: run `{command}` first", program.display());
    program
}
