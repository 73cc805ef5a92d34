use pmon_core::capture::{Details, DetailsSubject, Record};
use pmon_core::wire::ByteOrder;
use pmon_core::{MonoNs, Tgid};

use super::*;

fn statistics(details: impl IntoIterator<Item = Details>) -> Statistics {
    let mut statistics = Statistics::new(ByteOrder::Little, None);
    details.into_iter().for_each(|details| statistics.count(&Record::Details(Box::new(details))));
    statistics
}

fn missed(miss: MissReason) -> Details {
    Details::missed(DetailsSubject::Exec { tgid: Tgid(1), time: MonoNs(1) }, miss)
}

#[test]
fn missing_fields_are_named_with_their_reason() {
    assert_eq!(text(&statistics([])), "0 execs known, 0 execs missed");
    let part =
        Details { comm: Some("x".into()), ids: Some(Default::default()), ..missed(MissReason::Denied) };
    let denied = Details { args: Some("x\0".into()), cgroup: Some("0::/".into()), ppid: Some(1), ..part };
    let gone = Details { miss: Some(MissReason::Gone), args: None, ..denied.clone() };
    let long = Details {
        miss: Some(MissReason::TooLong),
        exe: Some("/x".into()),
        cwd: Some("/".into()),
        ..gone.clone()
    };
    let all = statistics([denied.clone(), denied.clone(), gone, long, missed(MissReason::Gone)]);
    let text = text(&all);
    assert_eq!(
        text,
        "4 execs known (exe and cwd of 2 denied; exe, cwd and args of 1 gone; args of 1 too long), 1 exec missed"
    );
    let expected = json!({
        "known": 1, "missed": 0, "partial": 1,
        "missing": [
            { "field": "exe", "why": "denied", "execs": 1 },
            { "field": "cwd", "why": "denied", "execs": 1 },
        ],
    });
    assert_eq!(json(&statistics([denied])), expected);
}
