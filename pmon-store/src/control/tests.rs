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
        ("", "EOF"),
        ("status", "malformed"),
        ("[]", "malformed"),
        ("{}", "request"),
        (r#"{"request":"status"} x"#, "trailing"),
        (r#"{"request":"explode"}"#, "use status, snapshot"),
        (r#"{"request":"status","nmae":"x"}"#, "nmae"),
        (r#"{"request":"status","name":"x"}"#, "none of the fields"),
        (r#"{"request":"snapshot","before_ns":-1}"#, "malformed"),
        (r#"{"request":"snapshot","before_ns":"30s"}"#, "malformed"),
        (r#"{"request":"status","version":2,"x":1}"#, "version 2"),
        (r#"{"request":"status","version":"1"}"#, "version \"1\""),
        ("{\"request\":\"\u{0}\"}", "malformed"),
    ] {
        let error = Request::parse(line.as_bytes()).expect_err(line).to_string();
        assert!(error.contains(expected), "{line}: {error}");
    }
    let deep = [b"[".repeat(10_000), b"]".repeat(10_000)].concat();
    assert!(Request::parse(&deep).is_err() && Request::parse(b"\xff{}").is_err());
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
