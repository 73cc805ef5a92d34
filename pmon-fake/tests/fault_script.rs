//! The syntax of fault scripts, and the errors with their lines.

use std::time::Duration;

use pmon_core::wire::EventKind;
use pmon_fake::{Errno, EventPlace, Fault, FaultScript, Kernel, RecvFlags, Trigger};
use proptest::prelude::*;

fn parse(text: &str) -> Result<FaultScript, (Option<usize>, String)> {
    text.parse::<FaultScript>().map_err(|error| (error.line(), error.to_string()))
}

#[test]
fn each_key_is_parsed() {
    let amounts = [
        ("lose", Fault::Lose as fn(_) -> _),
        ("overrun", Fault::Overrun),
        ("no_memory", Fault::NoMemory),
        ("burst", Fault::Burst),
        ("eintr", Fault::Eintr),
        ("eagain", Fault::Eagain),
        ("truncate", Fault::Truncate),
        ("hold", Fault::Hold),
        ("step", Fault::Step),
        ("blind", Fault::Blind),
    ];
    for (name, fault) in amounts {
        let one = parse(&format!("[[fault]]\nat = 7\n{name} = 3\n")).unwrap();
        assert_eq!(one, FaultScript::new().with(Trigger::At(7), fault(3.into()), None));
        let some = parse(&format!("[[fault]]\nevery = 10\nfrom = 5\n{name} = \"2..9\"\ncpu = 1\n")).unwrap();
        assert_eq!(
            some,
            FaultScript::new().with(Trigger::Every { events: 10, from: 5 }, fault((2..=9).into()), Some(1))
        );
    }
    let others = [
        ("foreign_ack = true", Fault::ForeignAck),
        ("forge = true", Fault::Forge),
        ("noop = true", Fault::Noop),
        ("overflow = true", Fault::Overflow),
        ("end = true", Fault::End),
        ("error = 105", Fault::Error(105)),
        ("unknown = 0x20", Fault::Unknown(32)),
    ];
    let until = EventPlace::kind(EventKind::Exec).pid(7);
    let others = others.into_iter().chain([
        ("lose_until = { kind = \"exec\", pid = 7 }", Fault::LoseUntil(until)),
        ("error = \"ENOBUFS\"", Fault::Error(105)),
        ("step = \"10ms\"", Fault::Step(Duration::from_millis(10).into())),
        ("step = \"1us..2h\"", Fault::Step((Duration::from_micros(1)..=Duration::from_secs(7200)).into())),
    ]);
    for (text, fault) in others {
        let script = parse(&format!("[[fault]]\nchance = 0.5\n{text}\n")).unwrap();
        assert_eq!(script, FaultScript::new().with(Trigger::chance(0.5), fault, None));
    }
    assert_eq!(parse("# no faults\n"), Ok(FaultScript::new()));
}

#[test]
fn each_key_of_a_place_is_parsed() {
    let script = |trigger| FaultScript::new().with(trigger, Fault::End, None);
    let fork = || EventPlace::kind(EventKind::Fork);
    let places = [
        ("{ kind = \"fork\" }", fork()),
        ("{ kind = \"fork\", pid = 7, tid = 8, parent = 9 }", fork().pid(7).tid(8).parent(9)),
        ("{ comm = \"make\", nth = 3 }", EventPlace::any().comm("make").nth(3)),
        ("{ args = '^make -j\\d+$' }", EventPlace::any().args(r"^make -j\d+$").unwrap()),
    ];
    for (text, place) in places {
        let parsed = parse(&format!("[[fault]]\nat = {text}\nend = true\n")).unwrap();
        assert_eq!(parsed, script(Trigger::Place(place)));
    }
    let every = parse("[[fault]]\nevery = 10\nfrom = 2\nof = { kind = \"fork\" }\nend = true\n").unwrap();
    assert_eq!(every, script(Trigger::EveryOf { events: 10, from: 2, of: fork() }));
    let chance = parse("[[fault]]\nchance = 0.5\nof = { kind = \"fork\" }\nend = true\n").unwrap();
    assert_eq!(chance, script(Trigger::chance_of(0.5, fork())));
    // The other form of a table.
    let table = parse("[[fault]]\nend = true\n[fault.at]\nkind = \"fork\"\npid = 7\n").unwrap();
    assert_eq!(table, script(Trigger::Place(fork().pid(7))));
    for kind in EventKind::ALL {
        let parsed = parse(&format!("[[fault]]\nat = {{ kind = \"{kind}\" }}\nend = true\n")).unwrap();
        assert_eq!(parsed, script(Trigger::Place(EventPlace::kind(kind))));
    }
}

#[test]
fn each_rule_has_its_line_and_is_written_as_in_the_script() {
    let text = "# comment\n[[fault]]\nat = 3\nlose = 1\n\n\n[[fault]]\nevery = 2\nend = true\n";
    let script = parse(text).unwrap();
    assert_eq!([script.line(0), script.line(1), script.line(2)], [Some(2), Some(7), None]);
    assert_eq!(script.rules()[0].to_string(), "at = 3, lose = 1");
    assert_eq!(FaultScript::new().with(Trigger::At(0), Fault::End, None).line(0), None);
}

#[test]
fn an_error_names_its_line_and_its_reason() {
    let invalid = [
        ("[[fault]]\nat = 1\noverrun = 1\n\n[[fault]]\nat = 2\n", 5, "the fault has no action"),
        ("[[fault]]\noverrun = 1\n", 1, "exactly one of `at`, `every` and `chance`"),
        ("[[fault]]\nat = 1\nevery = 2\noverrun = 1\n", 1, "exactly one of `at`, `every` and `chance`"),
        ("[[fault]]\nat = 1\noverrun = 1\nburst = 2\n", 1, "several actions"),
        ("[[fault]]\nat = 1\novverrun = 1\n", 3, "unknown field `ovverrun`"),
        ("[[fault]]\nat = 1\noverrun = -1\n", 3, "a number from 0 to 4294967295, or a range"),
        (
            "[[fault]]\nat = 1\nlose = 4294967296\n",
            3,
            "`lose`: invalid value: integer `4294967296`, expected a number",
        ),
        ("[[fault]]\nat = 1\noverrun = \"9..2\"\n", 3, "is not a range"),
        ("[[fault]]\nat = 1\noverrun = \"10ms\"\n", 3, "is not a range"),
        ("[[fault]]\nat = 1\noverrun = true\n", 3, "or a range"),
        ("[[fault]]\nat = 1\noverrun = { x = 1 }\n", 3, "or a range"),
        ("[[fault]]\nat = 1\nburst = 1000001\n", 1, "`burst` must be at most 1000000"),
        ("[[fault]]\nat = 1\nforge = false\n", 3, "expected `true`"),
        ("[[fault]]\nat = 1\nforge = 1\n", 3, "expected `true`"),
        ("[[fault]]\nevery = 0\nforge = true\n", 2, "`every` must be at least 1"),
        (
            "[[fault]]\nevery = -3\nforge = true\n",
            2,
            "`every`: invalid value: integer `-3`, expected an integer from 0",
        ),
        ("[[fault]]\nevery = \"3\"\nforge = true\n", 2, "expected an integer from 0"),
        ("[[fault]]\nchance = 1.5\nforge = true\n", 2, "a probability from 0 to 1"),
        ("[[fault]]\nchance = nan\nforge = true\n", 2, "a probability from 0 to 1"),
        ("[[fault]]\nchance = \"often\"\nforge = true\n", 2, "a probability from 0 to 1"),
        ("[[fault]]\nat = 1\nfrom = 2\nforge = true\n", 3, "`from` requires `every`"),
        ("[[fault]]\nat = 1\nforge = true\ncpu = 8192\n", 4, "`cpu` must be at most 8191"),
        ("[[fault]]\nat = 1\nforge = true\ncpu = -1\n", 4, "`cpu`: invalid value"),
        ("[[fault]]\nat = 1\nforge = true\nforge = true\n", 4, "duplicate key"),
        ("[[fault]]\nat = 1\nerror = \"EINTRR\"\n", 3, "did you mean \"EINTR\"?"),
        ("[[fault]]\nat = 1\nerror = \"eintr\"\n", 3, "did you mean \"EINTR\"?"),
        ("[[fault]]\nat = 1\nerror = \"broken\"\n", 3, "use a name such as \"EINTR\", or a number"),
        ("[[fault]]\nat = 1\nerror = true\n", 3, "expected the name of an error"),
        ("[[fault]]\nat = 1\nstep = \"10\"\n", 3, "(units ns, us, ms, s, m, h)"),
        ("[[fault]]\nat = 1\nstep = \"10\\n\\u001b[1m\"\n", 3, "\"10;  [1m\" is neither"),
        ("[[fault]]\nat = 1\nstep = \"10 parsecs\"\n", 3, "(units ns, us, ms, s, m, h)"),
        ("[[fault]]\nat = 1\nstep = \"1..5ms\"\n", 3, "a range such as"),
        ("[[fault]]\nat = 1\nstep = -5\n", 3, "a duration such as"),
        ("[[fault]]\nat = 1\nunknown = 4294967296\n", 3, "an integer from 0 to 4294967295"),
        ("[[fault]]\nat = \"fork\"\nend = true\n", 2, "expected the number of an event, or a place"),
        ("[[fault]]\nat = -1\nend = true\n", 2, "expected the number of an event, or a place"),
        ("[[fault]]\nat = {}\nend = true\n", 2, "`at` names no events; add at least one of `kind`"),
        ("[[fault]]\nat = { nth = 2 }\nend = true\n", 2, "`at` names no events"),
        (
            "[[fault]]\nat = { kind = \"frok\" }\nend = true\n",
            2,
            "did you mean \"fork\"? The kinds are ack, fork",
        ),
        ("[[fault]]\nat = { kind = 1 }\nend = true\n", 2, "`kind`: invalid value"),
        (
            "[[fault]]\nat = { pid = -1 }\nend = true\n",
            2,
            "`pid`: invalid value: integer `-1`, expected an integer from 0 to 4294967295",
        ),
        ("[[fault]]\nat = { pid = \"init\" }\nend = true\n", 2, "`pid`: invalid type"),
        (
            "[[fault]]\nat = { ppid = 1 }\nend = true\n",
            2,
            "unknown field `ppid`, expected one of `kind`, `pid`",
        ),
        ("[[fault]]\nat = { comm = \"sixteen-letters-\" }\nend = true\n", 2, "at most 15 bytes"),
        (
            "[[fault]]\nat = { args = \"(\" }\nend = true\n",
            2,
            "not a valid regular expression: unclosed group",
        ),
        ("[[fault]]\nat = { kind = \"fork\", nth = 0 }\nend = true\n", 2, "`nth` must be at least 1"),
        (
            "[[fault]]\nat = { kind = \"ack\", pid = 1 }\nend = true\n",
            2,
            "`ack` have no process; remove `pid`",
        ),
        (
            "[[fault]]\nat = { kind = \"exec\", parent = 1 }\nend = true\n",
            2,
            "`parent` is for fork, exit and coredump",
        ),
        ("[[fault]]\nat = 1\nof = { kind = \"fork\" }\nend = true\n", 3, "`of` requires `every` or `chance`"),
        (
            "[[fault]]\nevery = 2\nof = { kind = \"fork\", nth = 2 }\nend = true\n",
            3,
            "`nth` is for `at` and `lose_until`",
        ),
        ("[[fault]]\nevery = 2\nof = 3\nend = true\n", 3, "expected a place such as"),
        ("[[fault]]\nat = 1\nlose_until = 5\n", 3, "expected a place such as"),
        ("[[fault]]\nat = 1\nlose_until = {}\n", 3, "`lose_until` names no events"),
        ("[[fault]\n", 1, ""),
        ("\n\nfault = 3\n", 3, ""),
    ];
    for (text, line, reason) in invalid {
        let (at, message) = parse(text).expect_err(text);
        assert_eq!(at, Some(line), "{text}{message}");
        assert!(
            message.starts_with(&format!("line {line}: ")) && message.contains(reason),
            "{text}{message}"
        );
        assert!(!message.contains('\n'), "{message}");
    }
}

proptest! {
    #[test]
    fn a_rule_written_on_one_line_is_parsed_as_the_same_rule(lines in prop::collection::vec(line(), 2..4)) {
        let Ok(script) = format!("[[fault]]\n{}\n", lines.join("\n")).parse::<FaultScript>() else { return Ok(()) };
        for rule in script.rules() {
            let same = format!("fault = [{{ {rule} }}]").parse::<FaultScript>();
            prop_assert_eq!(same.as_ref().map(FaultScript::rules), Ok(std::slice::from_ref(rule)), "{}", rule);
            prop_assert!(!rule.to_string().contains('\n'));
        }
    }

    #[test]
    fn each_probability_is_written_as_the_same_one(probability: u32) {
        let trigger = Trigger::Chance(probability);
        let script = format!("fault = [{{ {trigger}, end = true }}]").parse::<FaultScript>().unwrap();
        prop_assert_eq!(&script.rules()[0].trigger, &trigger);
    }

    #[test]
    fn any_text_is_parsed_or_rejected_with_a_line_of_it(lines in prop::collection::vec(line(), 0..12)) {
        let text = lines.join("\n");
        match text.parse::<FaultScript>() {
            Ok(script) => prop_assert_eq!(script.rules().len(), text.matches("[[fault]]").count()),
            Err(error) => prop_assert!(error.line().is_none_or(|line| line <= lines.len() + 1), "{text}\n{error}"),
        }
    }
}

/// A line that resembles one of a script.
fn line() -> impl Strategy<Value = String> {
    let key = "(at|every|from|chance|of|cpu|lose|lose_until|overrun|burst|truncate|forge|error|unknown|hold|step|\
               blind|end|x)";
    let place = r#"\{ (kind = "(fork|ack|x)"|pid = -?[0-9]{1,11}|parent = 1|comm = ".{0,17}"|args = '.{0,4}'|nth = [0-9])(, nth = [0-9])? \}"#;
    let value = format!(
        r#"(true|false|-?[0-9]{{1,20}}|[0-9]\.[0-9]|"[0-9]{{1,11}}(ms|h|)\.\.[0-9]{{1,11}}(ms|h|)"|nan|inf|\[\]|'.*'|"[0-9.]{{1,22}}[a-z]{{1,2}}"|"E[A-Z]{{1,6}}"|{place})"#
    );
    prop_oneof![
        3 => Just("[[fault]]".to_owned()),
        8 => prop::string::string_regex(&format!("{key} = {value}")).unwrap(),
        1 => "[a-z\\[\\]= ]{0,12}",
    ]
}

/// Returns the examples, in the last column, of the first table in a section of
/// `docs/fake-kernel.md`.
fn documented_examples(section: &str) -> Vec<String> {
    let document = include_str!("../../docs/fake-kernel.md");
    let (_, rest) = document.split_once(section).expect("the section exists");
    let table =
        rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let rows = table.filter_map(|line| line.strip_suffix("` |"));
    rows.map(|row| row.rsplit('`').next().expect("a split has a first part").to_owned()).collect()
}

#[test]
fn each_documented_example_is_valid_and_each_key_is_documented() {
    let actions = documented_examples("### What");
    for example in &actions {
        parse(&format!("[[fault]]\nat = 1\n{example}\n")).expect(example);
    }
    for example in documented_examples("### When") {
        let with_every =
            if example.starts_with("from") || example.starts_with("of") { "every = 2\n" } else { "" };
        parse(&format!("[[fault]]\nend = true\n{with_every}{example}\n")).expect(&example);
    }
    let keys_of_places = documented_examples("### Places");
    for example in &keys_of_places {
        let kind = if example.starts_with("nth") { "kind = \"fork\", " } else { "" };
        parse(&format!("[[fault]]\nat = {{ {kind}{example} }}\nend = true\n")).expect(example);
    }
    let (_, message) = parse("[[fault]]\nat = { x = 1 }\n").expect_err("no such key");
    let documented: Vec<_> = keys_of_places.iter().filter_map(|example| example.split(' ').next()).collect();
    assert_eq!(message.split('`').skip(3).step_by(2).collect::<Vec<_>>(), documented);
    let (_, message) = parse("[[fault]]\nx = 1\n").expect_err("no such key");
    let keys = message.split('`').skip(3).step_by(2);
    let is_action = |key: &&str| !["at", "every", "from", "chance", "of", "cpu"].contains(key);
    let documented: Vec<_> = actions.iter().filter_map(|example| example.split(' ').next()).collect();
    assert_eq!(keys.filter(is_action).collect::<Vec<_>>(), documented);
}

#[test]
fn the_documented_script_of_four_lines_loses_the_fork_and_reports_it() {
    let document = include_str!("../../docs/fake-kernel.md");
    let (_, rest) = document.split_once("### Lost events").expect("the section exists");
    let script = rest.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let script = parse(script.expect("the section has a script")).unwrap();

    let mut kernel = Kernel::new(1);
    kernel.inject(script, 0);
    let mut socket = kernel.socket();
    socket.listen().unwrap();
    socket.recv(&mut [0; 128], RecvFlags::empty()).unwrap();
    let shell = kernel.add_process("sh");
    let mut results = Vec::new();
    for pid in 301..=5072 {
        assert_eq!(kernel.fork(shell).tgid.0, pid);
        results.push(socket.recv(&mut [0; 128], RecvFlags::empty()).map(|received| received.len));
    }
    assert_eq!(results.iter().position(Result::is_err), Some(5071 - 301));
    assert_eq!(results[5071 - 301], Err(Errno::NOBUFS));
    assert_eq!((socket.memory().drops, results.last()), (1, Some(&Ok(76))));
}

#[test]
fn the_documented_lines_of_rust_are_those_of_a_doctest() {
    let document = include_str!("../../docs/fake-kernel.md");
    let (_, rest) = document.split_once("### Lost events").expect("the section exists");
    let lines =
        rest.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).expect("there is Rust");
    let doctest = include_str!("../src/kernel/mod.rs");
    for line in lines.lines() {
        assert!(doctest.contains(&format!("/// {line}")), "{line}");
    }
    assert_eq!(lines.lines().count(), 4);
}
