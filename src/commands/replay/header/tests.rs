use pmon_analysis::filter::{EndCondition, TimeBound};
use pmon_core::{MonoNs, Tgid};

use super::*;

/// The texts decide the UUIDs of recorded replays, so a renamed type must not change them.
#[test]
fn fingerprints_keep_their_form() {
    let script = "[[fault]]\nat = 5\noverrun = 40\n[[fault]]\nevery = 7\nfrom = 2\nhold = \"1..3\"\ncpu = 1\n\
                  [[fault]]\nchance = 0.5\nend = true\n";
    assert_eq!(
        script_fingerprint(&script.parse().expect("a valid script")),
        "Script([Rule { place: At(5), fault: Overrun(Amount { from: 40, to: 40 }), cpu: None }, \
         Rule { place: Every { events: 7, from: 2 }, fault: Hold(Amount { from: 1, to: 3 }), cpu: Some(Cpu(1)) }, \
         Rule { place: Chance(2147483647), fault: End, cpu: None }])"
    );
    assert_eq!(filter_fingerprint(None), "None");
    let filter = Filter {
        pids: vec![7],
        since: Some(TimeBound::Mono(MonoNs(3))),
        hide_self_generated: Some(Tgid(9)),
        ..Filter::default()
    };
    assert_eq!(
        filter_fingerprint(Some(&filter)),
        "Some(Filter { kinds: [], pids: [7], tree: None, name: None, since: Some(Mono(MonoNs(3))), \
         until: None, hide_threads: false, hide_own: Some(Tgid(9)) })"
    );
    let process = ProcessCondition {
        comm: Some(b"sh".to_vec()),
        ends: vec![EndCondition::Failed],
        exe: Some(Glob::new("make").expect("a valid pattern")),
        ..ProcessCondition::default()
    };
    assert_eq!(
        filter_fingerprint(Some(&Filter { process, ..Filter::default() })),
        "Some(Filter { kinds: [], pids: [], tree: None, name: Some([115, 104]), since: None, until: None, \
         hide_threads: false, hide_own: None, ends: [\"failed\"], longer_than: None, exe: Some(\"make\"), \
         args: None, uids: [], unit: None, container: None, cgroup: None })"
    );
}
