use super::*;

#[test]
fn a_path_is_found_by_its_id_and_other_paths_are_unknown() {
    let mut cgroups = Cgroups::default();
    assert_eq!(cgroups.find(1), UNKNOWN);
    cgroups.insert(1, b"head", b"a\0");
    assert_eq!(cgroups.find(1), b"heada\0");
    cgroups.insert(1, b"head", b"b\0");
    assert_eq!(cgroups.find(1), b"headb\0");
}

#[test]
fn memory_is_bounded_and_recent_paths_are_kept() {
    let mut cgroups = Cgroups::default();
    let names = [b'x'; 4000];
    for id in 0..10_000 {
        cgroups.insert(id, b"head", &names);
        assert_eq!(cgroups.find(id).len(), 4004);
        assert_eq!(cgroups.find(id.saturating_sub(400)).len(), 4004);
    }
    assert!(cgroups.take_dropped() && !cgroups.take_dropped());
    let bytes: usize = cgroups.new.values().chain(cgroups.old.values()).map(|path| path.len()).sum();
    assert!(bytes <= 2 * MAX_BYTES + 8192, "{bytes}");
    // A path that is sent repeatedly takes its memory once.
    let mut cgroups = Cgroups::default();
    for _ in 0..10_000 {
        cgroups.insert(1, b"head", &names);
    }
    assert!(!cgroups.take_dropped());
}
