use std::path::Path;

use super::*;

/// Merges a command line with the text of a file.
fn merged(arguments: &[&str], text: &str) -> Result<RecordConfig, String> {
    let line: Vec<_> = ["pmon", "record"].iter().chain(arguments).map(OsString::from).collect();
    let merge = || {
        let (_, matches) = parse(&line)?;
        let config =
            RecordConfig::merge(&line, &matches, Some(ConfigFile::parse(Path::new("p.toml"), text)?))?;
        config.check_store_options()?;
        Ok(config)
    };
    merge().map_err(|failure: Failure| failure.message())
}

fn error(arguments: &[&str], text: &str) -> String {
    merged(arguments, text).err().unwrap_or_else(|| panic!("{arguments:?} with {text:?} is valid"))
}

/// The options without a file and arguments.
fn defaults() -> Vec<OptionInForce> {
    let line = ["pmon", "record"].map(OsString::from);
    let (_, matches) = parse(&line).expect("no arguments");
    RecordConfig::merge(&line, &matches, None).expect("no options").options
}

/// A valid value of each option that is not its default, as TOML.
const VALUES: &[(&str, &str)] = &[
    ("output", "\"x.pmon\""),
    ("for", "\"10m\""),
    ("force", "true"),
    ("quiet", "true"),
    ("json", "true"),
    ("strict", "true"),
    ("buffer", "\"1M\""),
    ("socket-buffer", "1048576"),
    ("transport", "\"recvmmsg\""),
    ("ring", "\"1M\""),
    ("latency", "\"20ms\""),
    ("only", "[\"exec\", \"exit\"]"),
    ("uid", "[0, 1000]"),
    ("cgroup", "\"/user.slice\""),
    ("tree", "1"),
    ("args-max", "\"8K\""),
    ("no-args", "true"),
    ("redact", "\"--password=(.*)\""),
    ("container-root", "\"/host\""),
    ("require-buffer", "\"1M\""),
    ("heartbeat", "\"off\""),
    ("store", "\"/var/lib/pmon\""),
    ("rotate-size", "\"1M\""),
    ("rotate-every", "\"1h\""),
    ("max-use", "\"10G\""),
    ("max-age", "\"7d\""),
    ("keep-free", "\"1G\""),
    ("flight", "\"5m\""),
    ("flight-memory", "\"16M\""),
];

#[test]
fn a_file_sets_every_option_of_record() {
    let line = ["pmon", "record"].map(OsString::from);
    let (_, matches) = parse(&line).expect("no arguments");
    let merge = |text: &str| {
        let file = ConfigFile::parse(Path::new("p.toml"), text).expect("valid options");
        RecordConfig::merge(&line, &matches, Some(file)).expect("compatible options")
    };
    let (defaults, mut all) = (defaults(), String::new());
    for option in &defaults {
        let (key, value) = VALUES.iter().find(|(key, _)| *key == option.key).unwrap_or_else(|| {
            panic!("add a value of `{}` here, and the option to docs/store.md", option.key)
        });
        let text = format!("{key} = {value}\n");
        let config = merge(&format!("\n{text}"));
        let changed = config.options.iter().find(|other| other.key == option.key).expect("the option");
        assert_eq!(changed.origin, OptionOrigin::File(2), "{key}");
        assert_eq!(differences(&defaults, &config.options), [*key]);
        if !["output", "force", "no-args", "flight"].contains(key) {
            all.push_str(&text);
        }
    }
    // What `config check` prints is a file that sets the same options.
    let config = merge(&all);
    let printed: String = config.options.iter().map(|option| option.toml() + "\n").collect();
    let printed = printed.replace("force = false", "").replace("no-args = false", "");
    assert_eq!(differences(&config.options, &merge(&printed).options), Vec::<String>::new(), "{printed}");
    for (key, _) in VALUES {
        assert!(defaults.iter().any(|option| option.key == *key), "{key}");
    }
}

#[test]
fn flags_take_precedence_over_the_file() {
    let config =
        merged(&["--store", "/s", "--max-use", "5G"], "max-use = \"1G\"\nlatency = \"20ms\"").unwrap();
    assert_eq!(config.args.store.max_use, Some(5 << 30));
    assert_eq!(config.args.latency.as_millis(), 20);
    // And over an option that they exclude.
    let config = merged(&["--store", "/s"], "output = \"x.pmon\"").unwrap();
    assert!(config.args.output.is_none());
    let config = merged(&["-o", "x.pmon"], "store = \"/s\"").unwrap();
    assert!(config.args.store.store.is_none());
    let config = merged(&["--no-args"], "args-max = 1").unwrap();
    assert!(config.args.no_args);
    // The command stays the command.
    let config = merged(&["--store", "/s", "--", "ls", "--max-use", "x"], "quiet = true").unwrap();
    assert_eq!((config.args.command.len(), config.args.quiet), (3, true));
}

#[test]
fn errors_name_the_line_the_key_and_what_is_allowed() {
    for (text, expected) in [
        ("a = ", "p.toml:1: "),
        ("\n\nmaxuse = \"1G\"", "p.toml:3: there is no option `maxuse`; a similar one is `max-use`"),
        ("max_use = \"1G\"", "a similar one is `max-use`"),
        ("gibberish = 1", "there is no option `gibberish`; `pmon record --help`"),
        ("\"=x\" = 1", "there is no option `=x`"),
        ("\"store=/s\" = 1", "there is no option `store=/s`"),
        ("config = \"x\"", "`config` cannot be set in a file"),
        ("help = true", "`help` cannot be set in a file"),
        ("CMD = \"ls\"", "there is no option `CMD`"),
        ("quiet = 1", "p.toml:1: quiet: expected true or false"),
        ("max-use = 1.5", "max-use: expected a size, for example \"10G\""),
        ("max-use = \"lots\"", "max-use: expected a number of bytes"),
        ("max-age = true", "max-age: expected a duration"),
        (
            "\nstore = \"\"",
            "p.toml:2: store: the value is empty; expected a path as a string, or remove the key",
        ),
        ("output = \"\"", "output: the value is empty; expected a path"),
        ("cgroup = \"\"", "cgroup: the value is empty; expected a path"),
        ("max-use = \"\"", "max-use: the value is empty; expected a size, for example \"10G\""),
        ("for = \"\"", "for: the value is empty; expected a duration"),
        ("heartbeat = \"\"", "heartbeat: the value is empty; expected a duration, for example \"1s\""),
        ("redact = \"\"", "redact: the value is empty; expected a regular expression"),
        (
            "transport = \"\"",
            "transport: the value is empty; expected one of auto, ring+details, ring, recvmmsg",
        ),
        ("uid = \"\"", "uid: the value is empty; expected a list of UID"),
        ("uid = [1, \"\"]", "uid: the value is empty; expected a list of UID"),
        ("only = []", "only: the list is empty"),
        ("tree = \"\"", "tree: the value is empty; expected a process id"),
        ("\nheartbeat = \"1ms\"", "p.toml:2: heartbeat: must be at least 10ms, or `off`"),
        ("tree = 0", "p.toml:1: tree: `0` is no process id"),
        ("tree = \"x\"", "tree: `x` is no process id"),
        ("only = [\"ack\"]", "p.toml:1: only: `ack` cannot be selected; use fork, exec"),
        ("buffer = 0", "buffer: must be at least 1"),
        ("socket-buffer = \"2G\"", "socket-buffer: must be less than 2G"),
        (
            "[[triger]]\nname = \"x\"",
            "p.toml:1: there is no option `triger`; a trigger is written as [[trigger]]",
        ),
        ("latency = \"2s\"", "latency: must be from 1ms to 1s"),
        ("latency = []", "latency: the list is empty"),
        ("latency = [\"1ms\"]", "latency: expected a duration, for example \"10ms\""),
        ("transport = \"bird\"", "transport: expected one of auto, ring+details, ring, recvmmsg"),
        ("only = [\"spoon\"]", "only: `spoon` cannot be selected"),
        ("only = [[]]", "only: expected a list"),
        ("only = 1979-05-27", "only: expected a list of KIND"),
        ("uid = [\"root\"]", "uid: `root` is no user id; expected a number"),
        ("uid = -1", "uid: `-1` is no user id"),
        ("redact = \"(\"", "redact: "),
        ("rotate-size = 1", "rotate-size: must be at least 128K"),
        ("rotate-every = \"1ms\"", "rotate-every: must be at least 1s"),
        ("store = \"/s\"\nstore = \"/t\"", "p.toml:2: the key `store` is given twice; remove one of both"),
        ("store = \"/s\"\noutput = \"x\"", "p.toml: "),
        ("[store]\nx = 1", "p.toml:1: store: "),
        ("max-use = \"1G\"", "p.toml:1: max-use needs --store DIR"),
    ] {
        let error = error(&[], text);
        assert!(error.contains(expected), "{text}: {error}");
        // The error of a pattern shows the place by a line of its own.
        assert!(!error.contains('\n') || error.contains("redact"), "{error}");
    }
    assert!(error(&["--max-use", "1G"], "").starts_with("--max-use needs --store DIR"));
}

#[test]
fn only_limits_change_while_the_recorder_runs() {
    let line = ["--store", "/s"];
    let mut config = merged(&line, "max-use = \"1G\"\nring = \"1M\"").unwrap();
    let new = merged(&line, "max-use = \"2G\"\nring = \"2M\"\nmax-age = \"1d\"").unwrap();
    assert_eq!(differences(&config.options, &new.options), ["ring", "max-use", "max-age"]);
    config.take_reloadable(new);
    // What needs a restart is reported again.
    let again = merged(&line, "max-use = \"2G\"\nring = \"2M\"\nmax-age = \"1d\"").unwrap();
    assert_eq!(differences(&config.options, &again.options), ["ring"]);
}

#[test]
fn triggers_are_read_and_their_errors_have_a_line() {
    let line = ["--store", "/s"];
    let config = merged(&line, "max-use = \"1G\"\n[[trigger]]\nname = \"crash\"\nsignal = \"SIGSEGV\"\n");
    assert_eq!(config.unwrap().triggers()[0].name().as_str(), "crash");
    for (text, expected) in [
        ("\n[[trigger]]\nname = \"x\"\nkindd = \"exit\"", "p.toml:4: unknown field `kindd`"),
        ("[[trigger]]\nname = \"x\"\nkind = \"spoon\"", "p.toml:3: kind: \"spoon\" is no event kind"),
        ("[[trigger]]\nkind = \"exit\"", "missing field `name`"),
        ("trigger = 1", "p.toml:1: trigger: "),
        (
            "[[trigger]]\nname = \"x\"\nkind = \"exit\"\n[[trigger]]\nname = \"x\"\nkind = \"fork\"",
            "p.toml:4: two triggers have the name x",
        ),
    ] {
        let error = error(&line, text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    let without_store = error(&[], "[[trigger]]\nname = \"x\"\nkind = \"exit\"");
    assert!(without_store.contains("triggers need --store DIR"), "{without_store}");
}

#[test]
fn a_file_that_is_too_large_or_not_text_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.toml");
    std::fs::write(&path, " ".repeat((1 << 20) + 1)).unwrap();
    assert!(ConfigFile::read(&path).unwrap_err().message().contains("larger than 1 MiB"));
    std::fs::write(&path, [0xff]).unwrap();
    assert!(ConfigFile::read(&path).unwrap_err().message().contains("utf-8"));
    assert_eq!(ConfigFile::read(directory.path()).unwrap_err().code, exit::ENVIRONMENT);
    assert_eq!(ConfigFile::read(Path::new("/missing.toml")).unwrap_err().code, exit::ENVIRONMENT);
}
