//! The syntax of fault scripts, and the errors with their lines.

use pmon_fake::{Fault, FaultScript, Trigger};
use proptest::prelude::*;

fn parse(text: &str) -> Result<FaultScript, (Option<usize>, String)> {
    text.parse::<FaultScript>().map_err(|error| (error.line(), error.to_string()))
}

#[test]
fn each_key_is_parsed() {
    let amounts = [
        ("overrun", Fault::Overrun as fn(_) -> _),
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
    for (text, fault) in others {
        let script = parse(&format!("[[fault]]\nchance = 0.5\n{text}\n")).unwrap();
        assert_eq!(script, FaultScript::new().with(Trigger::chance(0.5), fault, None));
    }
    assert_eq!(parse("# no faults\n"), Ok(FaultScript::new()));
}

#[test]
fn an_error_names_its_line_and_its_reason() {
    let invalid = [
        ("[[fault]]\nat = 1\noverrun = 1\n\n[[fault]]\nat = 2\n", 5, "the fault has no action"),
        ("[[fault]]\noverrun = 1\n", 1, "exactly one of `at`, `every` and `chance`"),
        ("[[fault]]\nat = 1\nevery = 2\noverrun = 1\n", 1, "exactly one of `at`, `every` and `chance`"),
        ("[[fault]]\nat = 1\noverrun = 1\nburst = 2\n", 1, "several actions"),
        ("[[fault]]\nat = 1\novverrun = 1\n", 3, "unknown field `ovverrun`"),
        ("[[fault]]\nat = 1\noverrun = -1\n", 3, "a number, or a range"),
        ("[[fault]]\nat = 1\noverrun = \"9..2\"\n", 3, "is not a range"),
        ("[[fault]]\nat = 1\noverrun = true\n", 3, "a number, or a range"),
        ("[[fault]]\nat = 1\nforge = false\n", 3, "the only valid value is `true`"),
        ("[[fault]]\nevery = 0\nforge = true\n", 2, "`every` must be at least 1"),
        ("[[fault]]\nchance = 1.5\nforge = true\n", 2, "a probability from 0 to 1"),
        ("[[fault]]\nchance = nan\nforge = true\n", 2, "a probability from 0 to 1"),
        ("[[fault]]\nat = 1\nfrom = 2\nforge = true\n", 3, "`from` requires `every`"),
        ("[[fault]]\nat = 1\nforge = true\ncpu = 8192\n", 4, "`cpu` must be at most 8191"),
        ("[[fault]]\nat = 1\nforge = true\nforge = true\n", 4, "duplicate key"),
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
    let key = "(at|every|from|chance|cpu|overrun|burst|truncate|forge|error|unknown|hold|step|blind|end|x)";
    let value = r#"(true|false|-?[0-9]{1,20}|[0-9]\.[0-9]|"[0-9]{1,11}\.\.[0-9]{1,11}"|nan|inf|\[\]|'.*')"#;
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
        let with_every = if example.starts_with("from") { "every = 2\n" } else { "" };
        parse(&format!("[[fault]]\nend = true\n{with_every}{example}\n")).expect(&example);
    }
    let (_, message) = parse("[[fault]]\nx = 1\n").expect_err("no such key");
    let keys = message.split('`').skip(3).step_by(2);
    let is_action = |key: &&str| !["at", "every", "from", "chance", "cpu"].contains(key);
    let documented: Vec<_> = actions.iter().filter_map(|example| example.split(' ').next()).collect();
    assert_eq!(keys.filter(is_action).collect::<Vec<_>>(), documented);
}
