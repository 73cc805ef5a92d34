use super::*;

#[test]
fn times_before_and_after_1970_are_formatted() {
    let mut timestamps = TimestampWriter::new(TimeZone::UTC, "%Y-%m-%dT%H:%M:%S");
    let mut text = |ns, digits| {
        let mut out = Vec::new();
        timestamps.push(&mut out, ns, digits);
        String::from_utf8(out).unwrap_or_default()
    };
    assert_eq!(text(1_767_323_045_678_901_234, 9), "2026-01-02T03:04:05.678901234");
    assert_eq!(text(1_767_323_045_000_000_001, 6), "2026-01-02T03:04:05.000000");
    assert_eq!(text(-1, 9), "1969-12-31T23:59:59.999999999");
    assert!(text(i64::MIN, 0).starts_with("1677-"));
}

#[test]
fn the_offset_is_shown_in_the_hour_that_occurs_twice() {
    let zone = TimeZone::get("Europe/Berlin").expect("the zone is known");
    let mut timestamps = TimestampWriter::new(zone, "%H:%M:%S");
    // 2026-10-25, when 03:00 +02:00 is followed by 02:00 +01:00, at 01:00 UTC.
    let hour = 3_600_000_000_000;
    let change = 1_792_890_000_000_000_000;
    let mut text = |real_ns| {
        let mut out = Vec::new();
        timestamps.push(&mut out, real_ns, 1);
        String::from_utf8(out).unwrap_or_default()
    };
    assert_eq!(text(change - hour - 1_000_000_000), "01:59:59.0");
    assert_eq!(text(change - hour), "02:00:00.0 +02:00");
    assert_eq!(text(change - 1), "02:59:59.9 +02:00");
    assert_eq!(text(change), "02:00:00.0 +01:00");
    assert_eq!(text(change + hour), "03:00:00.0");
}
