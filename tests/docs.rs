//! The documentation shows code that is tested.

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
