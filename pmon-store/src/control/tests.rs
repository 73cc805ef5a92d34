mod connection;
mod live;

use super::*;

#[test]
fn requests_are_read_as_they_are_written() {
    let snapshot = SnapshotRequest { name: Some("crash".into()), before_ns: Some(5), after_ns: None };
    for request in [
        Request::Status,
        Request::Rotate,
        Request::Reload,
        Request::Upgrade,
        Request::Snapshot(SnapshotRequest::default()),
        Request::Snapshot(snapshot),
    ] {
        let line = request.to_line();
        assert!(line.ends_with("}\n") && line.contains(r#""version":1"#), "{line}");
        assert_eq!(Request::parse(line.as_bytes()), Ok(request));
    }
    // People may leave the version out.
    assert_eq!(Request::parse(br#"{"request":"status"}"#), Ok(Request::Status));
}

#[test]
fn malformed_requests_are_refused_with_the_reason() {
    for (line, expected) in [
        ("", "the line is empty; send one JSON object in a line, for example {\"request\":\"status\"}"),
        (" \t", "the line is empty"),
        ("status", "it is not JSON: expected value"),
        ("[]", "invalid type: sequence, expected a JSON object such as {\"request\":\"status\"}"),
        ("\"status\"", "expected a JSON object"),
        ("{}", "the field `request` is missing; send one"),
        (r#"{"request":"status"} x"#, "trailing"),
        (r#"{"request":"explode"}"#, "there is no request \"explode\"; use status, snapshot"),
        (r#"{"request":5}"#, "there is no request 5; use status, snapshot"),
        (r#"{"request":"status","request":"upgrade"}"#, "the field \"request\" is given twice"),
        (r#"{"request":"status","nmae":"x"}"#, "there is no field \"nmae\"; use request"),
        (r#"{"request":"status","name":"x"}"#, "none of the fields"),
        (r#"{"request":"snapshot","name":7}"#, "`name` must be a string, and not 7"),
        (r#"{"request":"snapshot","before_ns":-1}"#, "`before_ns` must be a whole number of nanoseconds"),
        (r#"{"request":"snapshot","before_ns":"30s"}"#, "from 0 to 18446744073709551615, and not \"30s\""),
        (r#"{"request":"snapshot","after_ns":18446744073709551616}"#, "`after_ns` must be a whole number"),
        (r#"{"request":"snapshot","after_ns":1.5}"#, "and not 1.5"),
        (r#"{"request":"status","version":2,"x":1}"#, "version 2"),
        (r#"{"request":"status","version":"1"}"#, "version \"1\""),
        ("{\"request\":\"\u{0}\"}", "malformed"),
    ] {
        let error = Request::parse(line.as_bytes()).expect_err(line).to_string();
        assert!(error.contains(expected), "{line}: {error}");
        assert!(!error.contains("struct") && !error.contains("u64"), "{line}: {error}");
    }
    let deep = [b"[".repeat(10_000), b"]".repeat(10_000)].concat();
    assert!(Request::parse(&deep).is_err());
    let error = |line: &[u8]| Request::parse(line).unwrap_err().to_string();
    assert_eq!(error(b"\xff{}"), "the request is malformed: it is not UTF-8");
    let long = error(format!("{{\"request\":\"{}\"}}", "x".repeat(60_000)).as_bytes());
    assert!(long.len() < 200, "{long}");
    let many: Vec<_> = (0..100).map(|n| format!("\"f{n}\":0")).collect();
    assert!(error(format!("{{{}}}", many.join(",")).as_bytes()).contains("more than 32 fields"));
}

#[test]
fn replies_are_read_as_they_are_written_and_may_gain_fields() {
    let lost = LostEvents { total: 3, by_cause: [("socket".to_owned(), 3)].into() };
    let status = Status { pid: 7, lost, oldest: Some("a".into()), queue_fill: 0.5, ..Status::default() };
    let clip = SnapshotReply {
        path: "/s/x.pmon".into(),
        verdict: "complete".into(),
        events: 1,
        bytes: 2,
        missing: String::new(),
    };
    for reply in [
        Reply::Status(Box::new(status)),
        Reply::Snapshot(clip),
        Reply::Rotate(RotateReply { ending: Some("x".into()) }),
        Reply::Reload(ReloadReply { changed: vec!["max-use".into()], ..ReloadReply::default() }),
        Reply::Upgrade(UpgradeReply {}),
        Reply::error(ErrorCode::Busy, "why"),
    ] {
        let line = reply.to_line();
        assert!(line.ends_with("}\n") && line.starts_with(r#"{"version":1,"reply":""#), "{line}");
        assert_eq!(Reply::parse(line.as_bytes()).as_ref(), Ok(&reply));
        let newer = line.replacen('{', r#"{"new":[1],"#, 1);
        assert_eq!(Reply::parse(newer.as_bytes()), Ok(reply));
    }
    let later = br#"{"version":1,"reply":"error","code":"too_hot","message":"m"}"#;
    assert_eq!(Reply::parse(later), Ok(Reply::error(ErrorCode::Other, "m")));
}
