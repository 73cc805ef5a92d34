//! The documentation shows code that is tested.

use std::process::Command;

/// The test in the README is the one in `examples/consumer.rs`.
#[test]
fn the_readme_shows_the_test_of_the_example() {
    let example = include_str!("../examples/consumer.rs");
    let (_, test) = example.split_once("#[test]\n").expect("a test");
    let readme = include_str!("../README.md");
    let (_, block) = readme.split_once("```rust\n#[test]\n").expect("a block of code");
    let (block, _) = block.split_once("```").expect("the end of the block");
    assert_eq!(block, test);
}

/// Each block of code in the manual for Rust is a part of a file that is tested.
#[test]
fn the_manual_for_rust_shows_tested_code() {
    let tested = [include_str!("../examples/monitor.rs"), include_str!("../pmon-fake/tests/tokio.rs")];
    let manual = include_str!("../docs/testing-rust.md");
    let blocks: Vec<_> = manual.split("```rust\n").skip(1).map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 4);
    for block in blocks.into_iter().flatten() {
        assert!(tested.iter().any(|file| file.contains(block)), "this code is not tested:\n{block}");
    }
}

/// The example configuration is valid, and remains so with every commented line.
#[test]
fn the_example_configuration_is_valid_and_has_every_option() {
    let example = include_str!("../docs/pmon.example.toml");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let check = |text: &str| {
        let file = directory.path().join("pmon.toml");
        std::fs::write(&file, text).expect("the file is written");
        let check = Command::new(env!("CARGO_BIN_EXE_pmon")).args(["config", "check"]).arg(file).output();
        let check = check.expect("pmon runs");
        assert!(check.status.success(), "{}\n{text}", String::from_utf8_lossy(&check.stderr));
        String::from_utf8(check.stdout).expect("UTF-8")
    };
    let printed = check(example);
    let commented: Vec<_> = example.lines().filter_map(|line| line.strip_prefix("# ")).collect();
    for option in printed.lines().skip(1).filter(|line| !line.starts_with("# trigger ")) {
        let option = option.trim_start_matches("# ").split(' ').next().expect("a key");
        let begins = |line: &&str| line.starts_with(&format!("{option} = "));
        let line = example.lines().chain(commented.iter().copied()).find(begins);
        check(line.unwrap_or_else(|| panic!("{option} is missing")));
    }
}
