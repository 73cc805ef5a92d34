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
