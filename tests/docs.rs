//! What the documentation shows is what is tested.

/// The README's consumer test is the one in `tests/consumer.rs`.
#[test]
fn the_readme_shows_the_test_that_runs() {
    let test = include_str!("consumer.rs");
    let (_, test) = test.split_once("#[test]\n").expect("a test");
    let readme = include_str!("../README.md");
    let (_, block) = readme.split_once("```rust\n#[test]\n").expect("a block of code");
    let (block, _) = block.split_once("```").expect("its end");
    assert_eq!(block, test);
}
