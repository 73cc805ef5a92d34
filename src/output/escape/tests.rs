use super::*;

#[test]
fn characters_that_control_the_terminal_are_escaped() {
    assert_eq!(printable(b"\x1b[2Jevil\n"), r"\x1b[2Jevil\n");
    assert_eq!(printable("\u{9b}2J\u{202e}".as_bytes()), r"\u009b2J\u202e");
    assert_eq!(printable(b"a\xffb\\"), r"a\xffb\\");
    assert_eq!(printable("größe".as_bytes()), "größe");
}

#[test]
fn json_differs_from_serde_only_in_characters_that_control_the_terminal() {
    let plain = serde_json::json!({ "a": ["größe\"\\\n", 1, null, {}, []], "b": { "c": -1.5, "d": true } });
    assert_eq!(json_text(&plain), format!("{plain:#}"));
    let hostile = serde_json::json!({ "k\u{7f}": "\u{7f}\u{9b}2J\u{202e}\u{2066}\u{200f}\u{61c}\u{85}" });
    let text = json_text(&hostile);
    assert!(!text.chars().any(|c| c != '\n' && is_harmful(c)), "{text:?}");
    assert!(text.contains(r"\u009b2J\u202e"), "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text).ok(), Some(hostile));
}

#[test]
fn words_are_quoted_where_needed() {
    let words = |args: &[&[u8]]| shell_words(args.iter().copied());
    assert_eq!(words(&[b"/usr/bin/git", b"status"]), "/usr/bin/git status");
    assert_eq!(words(&[b"sh", b"-c", b"echo $HOME", b""]), "sh -c 'echo $HOME' ''");
    assert_eq!(words(&[b"it's"]), r"'it'\''s'");
    assert_eq!(words(&[b"a'\x1b\xff"]), r"$'a\'\x1b\xff'");
}

#[test]
fn plain_texts_are_found_at_each_position() {
    for len in 0..40 {
        let plain = vec![b'x'; len];
        assert!(is_plain_ascii(&plain, [b'"', b'\\']));
        for at in 0..len {
            for byte in 0..=255 {
                let mut text = plain.clone();
                text[at] = byte;
                let expected = matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
                assert_eq!(is_plain_ascii(&text, [b'"', b'\\']), expected, "{byte} at {at} of {len}");
            }
        }
    }
}
