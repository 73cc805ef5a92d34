//! Tests how `.ci/run` runs the tests, and the summary that it prints after them.

use std::fs;
use std::process::Command;

/// Output of `cargo test` with lines of skipped tests and retries, from two programs that have a
/// test of the same name.
const LOG: &str = "\
     Running tests/cli/main.rs (target/debug/deps/cli-0)
skipped record::one: CAP_BPF and CAP_PERFMON are missing
test record::two ... skipped record::two: CAP_BPF and CAP_PERFMON are missing
skipped a part of record::three: there are no new PID namespaces for this user
skipped a part of record::three: there are no new PID namespaces for this user
retried record::two: other processes emit too many events
retried record::two: other processes emit too many events
test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 12.32s
     Running tests/details/main.rs (target/debug/deps/details-0)
skipped record::one: the user is not root
skipped record::one: the user is not root
test result: FAILED. 7 passed; 1 failed; 0 ignored; 0 measured; 1 filtered out; finished in 12.32s
";

#[test]
fn the_summary_counts_passed_failed_skipped_and_retried_tests() {
    let function = function("summary");
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let summary = |text: &str| {
        fs::write(&log, text).unwrap();
        let output = Command::new("bash")
            .args(["-c", &format!("{function}\nsummary \"$0\"")])
            .arg(&log)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let expected = "16 passed, 1 failed, 3 skipped: 2 CAP_BPF and CAP_PERFMON are missing; 1 the user is not root\n\
                    skipped in part: 1 there are no new PID namespaces for this user\n\
                    retried: 2 other processes emit too many events\n";
    assert_eq!(summary(LOG), expected);
    let passed = LOG.lines().filter(|line| line.starts_with("test result: ok")).collect::<String>();
    assert_eq!(summary(&passed), "12 passed, 0 failed, 0 skipped\n");
}

#[test]
fn tests_that_hang_are_ended_and_named() {
    let script = format!(
        "set -euo pipefail; LIMIT=1; tests='for name in a::hangs a::slow; do
             echo \"test $name has been running for over 60 seconds\"
         done
         echo \"test a::slow ... ok\"; sleep 60'\n{}{}run_tests bash -c",
        function("summary"),
        function("run_tests")
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(124), "{text}");
    assert!(text.ends_with("without a result after 60 s:\na::hangs\n"), "{text}");
}

/// Returns a function of `.ci/run`.
fn function(name: &str) -> String {
    let script = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/run")).unwrap();
    let from = script.find(&format!("\n{name}() {{")).expect("the function") + 1;
    script[from..from + script[from..].find("\n}\n").expect("the end of the function") + 3].to_owned()
}
