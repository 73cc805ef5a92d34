use super::*;

const START: u64 = 1_000_000_000_000;

/// The extent between two times in RFC 3339.
fn extent(start: &str, end: &str) -> Extent {
    let at = |text: &str| real_ns(text.parse().expect(text));
    let (start, end) = (at(start), at(end));
    let length = u64::try_from(end - start).expect("it ends after its start");
    Extent { start: Some((MonoNs(START), start)), end: Some((MonoNs(START + length), end)) }
}

/// Returns the range that `since` and `until` select, as RFC 3339 in UTC, and the notes; `-` omits
/// an option.
fn range(zone: &str, extent: &Extent, since: &str, until: &str) -> Result<([String; 2], String), String> {
    let zone = TimeZone::get(zone).expect(zone);
    let parse = |text| (text != "-").then(|| Moment::parse(text).expect(text));
    let resolved = resolve(["--since", "--until"], [parse(since), parse(until)], extent, &zone)?;
    let shown = |bound: Option<TimeBound>| match bound {
        None => "-".to_owned(),
        Some(TimeBound::Mono(at)) => format!("+{}", at.0 - START),
        Some(TimeBound::Wall(at)) => timestamp(at).to_string(),
    };
    Ok((resolved.bounds.map(shown), resolved.notes.join("\n")))
}

#[track_caller]
fn check(
    zone: &str,
    extent: &Extent,
    since: &str,
    until: &str,
    expected: [&str; 2],
    expected_notes: &[&str],
) {
    let (bounds, notes) = range(zone, extent, since, until).expect("a range");
    assert_eq!(bounds, expected, "{notes}");
    assert_eq!(expected_notes.is_empty(), notes.is_empty(), "{notes}");
    expected_notes.iter().for_each(|note| assert!(notes.contains(note), "{note:?} is not in {notes:?}"));
}

#[test]
fn every_form_is_read() {
    let extent = extent("2026-01-02T03:00:00Z", "2026-01-02T04:00:00Z");
    let at = "2026-01-02T03:04:05Z";
    for (text, expected) in [
        ("+2us", "+2000"),
        ("-1h", "+0"),
        (at, at),
        ("2026-01-02T04:04:05+01:00", at),
        ("2026-01-02 04:04:05+01:00", at),
        ("2026-01-02T04:04:05[Europe/Berlin]", at),
        ("2026-01-02T04:04:05+01:00[Europe/Berlin]", at),
        ("2026-01-02 03:04:05", at),
        ("20260102T030405", at),
        ("03:04:05", at),
        ("2026-01-02", "2026-01-02T00:00:00Z"),
    ] {
        check("UTC", &extent, text, "-", [expected, "-"], &[]);
    }
    for wrong in ["soon", "02:03+01:00", "02:03Z", "25:00", "", "2026-13-01", "02:03[Europe/Berlin]", "0"] {
        assert!(Moment::parse(wrong).is_err(), "{wrong}");
    }
    let unknown = Extent::default();
    assert!(resolve(["a", "b"], [Some(Moment::BeforeEnd(1)), None], &unknown, &TimeZone::UTC).is_err());
}

#[test]
fn a_time_of_day_is_the_first_such_time_in_the_capture() {
    let night = extent("2026-01-02T22:00:00Z", "2026-01-03T06:00:00Z");
    let morning = ["2026-01-03T02:03:00Z", "2026-01-03T02:10:00Z"];
    check("UTC", &night, "02:03", "02:10", morning, &["--since: 2026-01-03T02:03:00+00:00", "--until"]);
    check("UTC", &night, "23:50", "00:10", ["2026-01-02T23:50:00Z", "2026-01-03T00:10:00Z"], &["--until"]);
    // The same instants by other clocks.
    check("Asia/Kolkata", &night, "07:33", "-", ["2026-01-03T02:03:00Z", "-"], &[]);
    check("America/New_York", &night, "21:03", "-", ["2026-01-03T02:03:00Z", "-"], &["-05:00"]);
    let days = extent("2026-01-02T22:00:00Z", "2026-01-09T06:00:00Z");
    check("UTC", &days, "02:03", "-", [morning[0], "-"], &["give another one with its date"]);
    // The range ends on the day on which it starts, or the next.
    check(
        "UTC",
        &days,
        "2026-01-05 12:00",
        "02:03",
        ["2026-01-05T12:00:00Z", "2026-01-06T02:03:00Z"],
        &["--until"],
    );
    check("UTC", &days, "+10h", "12:00", ["+36000000000000", "2026-01-03T12:00:00Z"], &["--until"]);
}

#[test]
fn a_time_of_day_that_is_not_in_the_capture_is_the_nearest_one() {
    let short = extent("2026-01-02T02:05:00Z", "2026-01-02T02:07:00Z");
    check("UTC", &short, "02:00", "02:10", ["2026-01-02T02:00:00Z", "2026-01-02T02:10:00Z"], &[]);
    let midnight = extent("2026-01-02T23:55:00Z", "2026-01-03T00:05:00Z");
    let around = ["2026-01-02T23:50:00Z", "2026-01-03T00:10:00Z"];
    check("UTC", &midnight, "23:50", "00:10", around, &["before the capture", "after the capture ends"]);
    check("UTC", &midnight, "-", "00:10", ["-", around[1]], &["after the capture ends"]);
    check("UTC", &midnight, "23:50", "-", [around[0], "-"], &["before the capture starts"]);
    // If the end is unknown, the next such time is meant.
    let open = Extent { end: None, ..short };
    check("UTC", &open, "02:00", "-", ["2026-01-03T02:00:00Z", "-"], &["2026-01-03"]);
    check("UTC", &open, "02:04:30", "-", ["2026-01-02T02:04:30Z", "-"], &["before the capture starts"]);
}

#[test]
fn a_range_whose_ends_are_in_the_wrong_order_is_refused() {
    let day = extent("2026-01-02T01:00:00Z", "2026-01-02T05:00:00Z");
    for (since, until) in [
        ("02:10", "02:03"),
        ("2026-01-02 02:10", "2026-01-02 02:03"),
        ("2026-01-02T02:10:00Z", "2026-01-02T02:03:00Z"),
        ("+5s", "+2s"),
        ("-1s", "+1s"),
        ("2026-01-02 02:10", "02:03"),
    ] {
        let error = range("UTC", &day, since, until).expect_err(until);
        assert!(error.contains("no event can match") || error.contains("give times with"), "{error}");
    }
    assert!(range("UTC", &day, "+5s", "+5s").is_ok());
}

#[test]
fn the_repeated_hour_is_distinguished_by_its_offset() {
    // Clocks go from 03:00 +02:00 to 02:00 +01:00 at 01:00 UTC.
    let autumn = extent("2026-10-24T22:00:00Z", "2026-10-25T06:00:00Z");
    let (first, second) = ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z");
    let both = &["2026-10-25T02:30:00+02:00 is taken", "2026-10-25T02:30:00+01:00"][..];
    check("Europe/Berlin", &autumn, "02:30", "-", [first, "-"], both);
    check("Europe/Berlin", &autumn, "2026-10-25 02:30", "-", [first, "-"], both);
    check("Europe/Berlin", &autumn, "2026-10-25T02:30:00+01:00", "-", [second, "-"], &[]);
    // Only the second instant is in this capture, or can end a range that starts in it.
    let late = extent("2026-10-25T00:50:00Z", "2026-10-25T06:00:00Z");
    check("Europe/Berlin", &late, "02:30", "-", [second, "-"], &["02:30:00+01:00 is taken"]);
    check("Europe/Berlin", &late, "2026-10-25 02:30", "-", [second, "-"], &["02:30:00+01:00 is taken"]);
    let range = ["2026-10-25T01:00:00Z", second];
    check("Europe/Berlin", &autumn, "2026-10-25T01:00:00Z", "02:30", range, &["02:30:00+01:00 is taken"]);
    // Other zones: clocks change by an hour at 06:00 UTC, by half an hour at 15:00 UTC, and never.
    let american = extent("2026-11-01T04:00:00Z", "2026-11-01T12:00:00Z");
    check("America/New_York", &american, "01:30", "-", ["2026-11-01T05:30:00Z", "-"], &["-04:00", "-05:00"]);
    let island = extent("2026-04-04T12:00:00Z", "2026-04-04T20:00:00Z");
    check(
        "Australia/Lord_Howe",
        &island,
        "01:45",
        "-",
        ["2026-04-04T14:45:00Z", "-"],
        &["+11:00 is taken", "+10:30"],
    );
    check("Asia/Kolkata", &autumn, "05:00", "-", ["2026-10-24T23:30:00Z", "-"], &[]);
}

#[test]
fn the_missing_hour_is_the_moment_at_which_clocks_are_set_forward() {
    let spring = extent("2026-03-28T23:00:00Z", "2026-03-29T06:00:00Z");
    let change = "2026-03-29T01:00:00Z";
    for time in ["02:30", "02:00", "02:59:59", "2026-03-29 02:30"] {
        check("Europe/Berlin", &spring, time, "-", [change, "-"], &["there is no", "03:00:00+02:00"]);
    }
    check("Europe/Berlin", &spring, "03:00", "-", [change, "-"], &[]);
    check("Europe/Berlin", &spring, "01:59:59", "-", ["2026-03-29T00:59:59Z", "-"], &[]);
    let island = extent("2026-10-03T12:00:00Z", "2026-10-03T20:00:00Z");
    check("Australia/Lord_Howe", &island, "02:15", "-", ["2026-10-03T15:30:00Z", "-"], &["02:30:00+11:00"]);
}

#[test]
fn times_in_words_are_relative_to_now() {
    let now: Zoned = "2026-03-29T12:00:00+02:00[Europe/Berlin]".parse().expect("a time");
    let parsed = |text: &str| Moment::parse_relative(text, &now);
    let at = |text: &str| Some(Moment::At(text.parse().expect("a time")));
    let local = |text: &str| Some(Moment::Local(text.parse().expect("a time")));
    assert_eq!(parsed("now"), at("2026-03-29T10:00:00Z"));
    for text in ["2 min ago", "2min ago", "120s ago", "2 minutes ago"] {
        assert_eq!(parsed(text), at("2026-03-29T09:58:00Z"), "{text}");
    }
    assert_eq!(parsed("1h 30m ago"), at("2026-03-29T08:30:00Z"));
    // On the day before, the clock was set forward.
    assert_eq!(parsed("1 day ago"), at("2026-03-28T11:00:00Z"));
    assert_eq!(parsed("today"), local("2026-03-29T00:00:00"));
    assert_eq!(parsed("yesterday"), local("2026-03-28T00:00:00"));
    for text in ["", "ago", "soon", "2 min", "99999999 years ago"] {
        assert_eq!(parsed(text), None, "{text}");
    }
}
