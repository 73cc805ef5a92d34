use pmon_core::capture::{DetailsSubject, MissReason};
use pmon_core::wire::layout;
use pmon_core::{MonoNs, Tgid};
use proptest::prelude::*;

use super::*;

fn redact(pattern: &str) -> Redact {
    Redact::new(pattern).unwrap()
}

/// Redacts a command line whose words are separated by `|`.
fn redacted(pattern: &str, args: &str) -> String {
    let mut text = args.replace('|', "\0").into_bytes();
    redact(pattern).redact_line(&mut text);
    String::from_utf8(text).unwrap().replace('\0', "|")
}

fn redacted_bytes(pattern: &str, text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    redact(pattern).redact_line(&mut text);
    text
}

fn details() -> Details {
    let subject = DetailsSubject::Exec { tgid: Tgid(1), time: MonoNs(1) };
    Details { miss: None, ..Details::missed(subject, MissReason::Gone) }
}

#[test]
fn matches_are_replaced_and_arguments_keep_their_positions() {
    assert_eq!(redacted("token=[^ ]+", "curl|-H|token=abc|url"), "curl|-H|[redacted]|url");
    assert_eq!(redacted("--password[= ][^ ]+", "x|--password|secret|y"), "x|[redacted]|[redacted]|y");
    assert_eq!(redacted("--password[= ]([^ ]+)", "x|--password|secret|--password=two"), {
        "x|--password|[redacted]|--password=[redacted]"
    });
    assert_eq!(redacted("nothing", "x|y"), "x|y");
    assert_eq!(redacted(".*", "x||y"), "[redacted]||[redacted]");
    assert_eq!(redacted("(a)(b)?", "ab|a"), "[redacted]|[redacted]");
    assert_eq!(redacted("x*", "yy"), "yy");
}

#[test]
fn an_anchored_pattern_also_matches_a_single_argument() {
    assert_eq!(redacted("^secret$", "a|secret|secretly"), "a|[redacted]|secretly");
    assert_eq!(redacted(r"\Atoken=.*", "a|token=b c|d"), "a|[redacted]|d");
    assert_eq!(redacted("^a b$", "a|b"), "[redacted]|[redacted]", "the pattern also matches the whole line");
    assert!(has_anchors("a|^b") && has_anchors("b$") && has_anchors(r"b\z"));
    assert!(!has_anchors("[^ ]+"));
}

#[test]
fn a_secret_may_be_invalid_utf8() {
    for pattern in [
        "key=[^ ]+",
        r"key=\S+",
        "key=.+?(?: |$)",
        "(?-u)key=[^ ]+",
        "key=(?-u:[^ ]+)",
        r"key=[^\p{Greek} ]+",
        r"key=\xff\xfe",
    ] {
        let text = redacted_bytes(pattern, b"x\0key=\xff\xfe\0y");
        assert!(
            !text.contains(&0xff) && text.starts_with(b"x\0") && text.ends_with(b"\0y"),
            "{pattern}: {text:?}"
        );
    }
}

#[test]
fn characters_outside_of_ascii_match_as_characters() {
    assert_eq!(redacted("pässword=[^ ]+", "x|pässword=ü|y"), "x|[redacted]|y");
    assert_eq!(redacted("(?i)PÄSS", "x|päss"), "x|[redacted]");
    assert_eq!(redacted("[äö]+", "x|zäöz"), "x|z[redacted]z");
    assert_eq!(redacted(r"token=\w+", "token=gehéim|x"), "[redacted]|x", "the é is a letter");
}

#[test]
fn a_placeholder_is_not_redacted_again_and_does_not_complete_a_match() {
    assert_eq!(redacted("red|a", "abc|[redacted]"), "[redacted]bc|[redacted]");
    assert_eq!(redacted(r"secret|=\[", "token=secret"), "token[redacted]");
    assert_eq!(redacted(r"secret|\]b", "secretb"), "[redacted]");
    let twice = |pattern, text: &str| redacted(pattern, &redacted(pattern, text));
    for pattern in ["[a-z]+", ".", r"=\[", r"\]", "(d).", "[^ ]+"] {
        for text in ["token=secret|x", "dddd", "[redacted]d[redacted]", "]]=[["] {
            assert_eq!(redacted(pattern, text), twice(pattern, text), "{pattern} {text}");
        }
    }
}

#[test]
fn adjacent_matches_become_one_placeholder_and_the_result_is_bounded() {
    assert_eq!(redacted("[0-9]{4}", &"1234".repeat(30_000)), "[redacted]");
    // The placeholders are longer than the secrets.
    let redact = redact("x");
    let mut text = "x.".repeat(300).into_bytes();
    redact.redact_text(&mut text, 700);
    assert_eq!(text.len(), 700);
    let text = redacted("x", &"x.".repeat(60_000));
    assert!(text.len() <= MAX_TEXT);
    assert!(!text.contains('x'));
}

#[test]
fn the_patterns_own_text_and_the_argument_of_the_option_are_redacted() {
    let pattern = r"pass=(hunter2|sword\w+)";
    for line in [
        r"pmon|record|--redact|pass=(hunter2|sword\w+)|--|make",
        r"sudo|pmon|record|--redact=pass=(hunter2|sword\w+)",
        r#"sh|-c|pmon record --redact "pass=(hunter2|sword\w+)" -- make"#,
        r"sh|-c|pmon record --redact pass=\(hunter2\|sword\\w+\) -- make",
        r"sh|-c|pmon record --redact='pass=(hunter2|'sword\\w+')' -- make",
    ] {
        // The `|` of a pattern does not separate arguments.
        let line = line.replace("2|s", "2\u{1}s").replace("2|'", "2\u{1}'").replace(r"\|", "\\\u{1}");
        let mut text = line.replace('|', "\0").replace('\u{1}', "|").into_bytes();
        redact(pattern).redact_line(&mut text);
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains("hunter2") && !text.contains("sword"), "{text:?}");
        assert!(text.contains("--redact") && !line.contains("make") || text.contains("make"), "{text:?}");
    }
}

#[test]
fn an_empty_or_too_large_pattern_is_refused() {
    let refused = |pattern: &str| Redact::new(pattern).unwrap_err().to_string();
    assert!(refused("").contains("empty"));
    assert!(refused(r"\w{5000}").contains("2 MiB"));
    assert!(refused("(((a{100}){100}){100}){100}").contains("2 MiB"));
    assert!(refused("(").contains("unclosed group"));
    assert!(Redact::new(r"(?-u)\w{2000}").is_ok());
}

#[test]
fn every_text_of_a_process_is_redacted() {
    let secret = || Some(b"/a hunter2/b".to_vec());
    let mut all = Details {
        comm: Some(b"hunter2".to_vec()),
        exe: secret(),
        filename: secret(),
        cwd: secret(),
        cgroup: Some(b"1:cpu:/hunter2\n0::/hunter2.slice".to_vec()),
        args: Some(b"x\0hunter2\0".to_vec()),
        ..details()
    };
    redact("hunter[0-9]").details(&mut all, MAX_ARGS_BYTES);
    for text in all.strings().into_iter().flatten() {
        let text = String::from_utf8_lossy(text);
        assert!(text.contains("[redacted]") && !text.contains("hunter"), "{text}");
    }
}

#[test]
fn a_name_that_is_truncated_within_a_secret_of_its_file_name_is_redacted() {
    let of = |comm: &str, filename: &str| {
        let mut cut = Details { comm: Some(comm.into()), filename: Some(filename.into()), ..details() };
        redact("hunter2-[a-z]+-rabbit").details(&mut cut, MAX_ARGS_BYTES);
        String::from_utf8(cut.comm.unwrap()).unwrap()
    };
    assert_eq!(of("run-hunter2-and", "/x/run-hunter2-and-rabbit"), "[redacted]");
    assert_eq!(of("run-another-nam", "/x/run-another-name"), "run-another-nam");
    assert_eq!(
        of("run-hunter2-and", "/x/something"),
        "run-hunter2-and",
        "the name is not from that file name"
    );
}

#[test]
fn the_last_argument_of_a_partly_read_line_is_redacted() {
    let of = |args: Vec<u8>, args_len| {
        let mut cut = Details { args: Some(args), args_len, ..details() };
        redact("token=[0-9]{20}").args(&mut cut, MAX_ARGS_BYTES);
        cut.args.unwrap()
    };
    let cut = [&vec![b'x'; MAX_ARGS_BYTES - 11][..], b"\0token=1234"].concat();
    assert!(of(cut.clone(), Some(200_000)).ends_with(b"x\0[redacted]"));
    assert_eq!(of(cut.clone(), None), cut, "the line was read completely");
    let between = [&vec![b'x'; MAX_ARGS_BYTES - 1][..], b"\0"].concat();
    assert_eq!(of(between.clone(), Some(200_000)), between, "no argument is truncated");
}

#[test]
fn a_redacted_thread_name_is_padded_with_zeros() {
    let renamed = |name: &[u8; 16]| {
        let mut comm = Comm(*name);
        redact("hunter2").comm(&mut comm);
        comm.0
    };
    assert_eq!(&renamed(b"hunter2\0\0\0\0\0\0\0\0\0"), b"[redacted]\0\0\0\0\0\0");
    assert_eq!(&renamed(b"a-hunter2-and-b\0"), b"a-[redacted]-an\0");
    assert_eq!(
        &renamed(b"other\0hunter2\0\0\0"),
        b"other\0[redacted\0",
        "the rest of an older name is redacted as well"
    );
    assert_eq!(&renamed(b"nothing\0x\0\0\0\0\0\0\0"), b"nothing\0x\0\0\0\0\0\0\0");
}

#[test]
fn a_datagram_of_unknown_form_keeps_its_length_and_its_numbers() {
    let message = |what: u32, data: &[u8]| {
        let mut bytes = vec![b'1'; layout::EVENT_DATA];
        bytes[layout::NLMSG_LEN].copy_from_slice(&((layout::EVENT_DATA + data.len()) as u32).to_le_bytes());
        bytes[layout::WHAT].copy_from_slice(&what.to_le_bytes());
        bytes.extend_from_slice(data);
        bytes
    };
    let blanked = |mut bytes: Vec<u8>| {
        redact("1+").datagram(&mut bytes, ByteOrder::Little);
        bytes
    };
    let comm = message(0x200, b"11111111a11b");
    assert_eq!(blanked(comm.clone()), [&comm[..layout::EVENT_DATA + 8], b"a**b"].concat());
    let unknown = message(0x4000, b"1x");
    assert_eq!(blanked(unknown.clone()), [&unknown[..layout::EVENT_DATA], b"*x"].concat());
    let exit = message(0x8000_0000, &[b'1'; 24 + 2]);
    assert_eq!(blanked(exit.clone()), [&exit[..layout::EVENT_DATAGRAM_LEN], b"**"].concat());
    let both = [comm, b"no message: 11".to_vec()].concat();
    assert!(blanked(both).ends_with(b"a**bno message: **"));
    assert_eq!(blanked(b"11".to_vec()), b"**");
}

/// Each match of this pattern first scans the rest of the text for an `@`.
#[test]
fn after_too_much_scanning_the_rest_of_a_text_is_redacted() {
    let digits = "1234 ".repeat(6_000) + "visible|next|";
    for pattern in [r"\S+@\S+|[0-9]{4}", r"(\S+@\S+)|([0-9]{4})"] {
        let left = redacted(pattern, &digits);
        assert!(!left.contains(|c: char| c.is_ascii_digit()) && !left.contains("visible"), "{pattern}");
        assert_eq!(left.matches('|').count(), 2, "{pattern}");
        // A command line of usual length keeps what does not match.
        let short = "1234 ".repeat(40) + "visible|next|";
        assert!(redacted(pattern, &short).contains("visible"), "{pattern}");
    }
}

proptest! {
    #[test]
    fn no_text_keeps_a_secret(
        before in prop::collection::vec(any::<u8>(), 0..40),
        between in prop::collection::vec(prop_oneof![Just(0), Just(b' '), Just(0xff), any::<u8>()], 0..40),
        secret in "[a-z]{1,12}",
    ) {
        let text = [&before, secret.as_bytes(), &between, secret.as_bytes(), b"\0"].concat();
        let left = redacted_bytes(&secret, &text);
        let without: Vec<u8> = String::from_utf8_lossy(&left).replace("[redacted]", "\u{1}").into_bytes();
        prop_assert!(!without.windows(secret.len()).any(|window| window == secret.as_bytes()));
        let words = |text: &[u8]| text.iter().filter(|&&byte| byte == 0).count();
        prop_assert_eq!(words(&left), words(&text));
    }

    #[test]
    fn redaction_never_panics(
        pattern in r"[a-c^$.*+?|(){}\[\]\\0-9ä -]{1,12}",
        text in prop::collection::vec(prop_oneof![Just(0), Just(0xc3), b'a'..=b'd', any::<u8>()], 0..60),
    ) {
        if let Ok(redact) = Redact::new(&pattern) {
            let (mut line, mut raw) = (text.clone(), text);
            redact.redact_line(&mut line);
            redact.datagram(&mut raw, ByteOrder::Little);
        }
    }
}
