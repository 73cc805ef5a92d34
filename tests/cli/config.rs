//! Tests configuration files of `pmon record`, and `pmon config check`.

use crate::support::*;

#[test]
fn config_check_prints_what_is_in_force() {
    let dir = Dir::new();
    let file = dir.file("pmon.toml", b"# Comment\nmax-use = \"10G\"\nonly = [\"exec\", \"exit\"]\n");
    let out = pmon(&["config", "check", &file]).expect(0).out;
    let has = |line: &str| out.lines().any(|other| other.split_whitespace().eq(line.split_whitespace()));
    assert!(has("max-use = \"10G\" # line 2"), "{out}");
    assert!(has("only = [\"exec\", \"exit\"] # line 3"), "{out}");
    assert!(has("latency = \"10ms\" # default") && has("quiet = false # default"), "{out}");
    assert!(has("# max-age is not set"), "{out}");
    // The output is a file with the same meaning.
    let again = dir.file("again.toml", out.as_bytes());
    let again = pmon(&["config", "check", &again]).expect(0).out;
    assert!(again.contains("max-use = \"10G\"") && again.contains("latency = \"10ms\""), "{again}");
}

#[test]
fn errors_in_a_file_have_a_place_and_a_code() {
    let dir = Dir::new();
    let check = |text: &str, code| {
        let file = dir.file("pmon.toml", text.as_bytes());
        pmon(&["config", "check", &file]).expect(code).err
    };
    let err = check("\nmax-us = \"1G\"\n", 2);
    assert!(err.contains("pmon.toml:2: there is no option `max-us`; a similar one is `max-use`"), "{err}");
    assert!(check("latency = \"5s\"", 2).contains("pmon.toml:1: latency: must be from 1ms to 1s"));
    assert!(check("only = [\"ack\"]", 2).contains(":1: only: `ack` cannot be selected; use fork"));
    assert!(check("tree = true", 2).contains("--tree needs a process id"));
    assert!(check("a\x1b[2J = 1", 2).contains("pmon.toml:1: "));
    assert!(!check("\"\\u001b[2J\" = 1", 2).contains('\x1b'));
    let missing = pmon(&["config", "check", "/nowhere/pmon.toml"]).expect(6).err;
    assert!(missing.contains("cannot read the configuration /nowhere/pmon.toml"), "{missing}");
    pmon(&["config"]).expect(2);
}

#[test]
fn record_reads_the_file_before_it_records() {
    let dir = Dir::new();
    let file = dir.file("pmon.toml", b"latency = \"1h\"");
    let err = pmon(&["record", "--config", &file, "--for", "1ms"]).expect(2).err;
    assert!(err.contains("pmon.toml:1: latency"), "{err}");
    let file = dir.file("pmon.toml", b"max-use = \"1G\"");
    let err = pmon(&["record", "--config", &file, "--for", "1ms"]).expect(2).err;
    assert!(err.contains("pmon.toml:1: max-use needs --store DIR"), "{err}");
    pmon(&["record", "--config", "/nowhere.toml", "--for", "1ms"]).expect(6);
}
