use super::*;

#[test]
fn the_verifiers_last_message_is_its_objection() {
    let log = "0: R1=ctx()\n7: (85) call unknown#4\ninvalid func unknown#4\nverification time 5 usec\n\
               stack depth 0\nprocessed 8 insns (limit 1000000) max_states_per_insn 0\n\n";
    assert_eq!(last_message(log), "invalid func unknown#4");
    assert_eq!(last_message(""), "no message");
}

#[test]
fn missing_capabilities_are_named() {
    let [bpf, perfmon] = [CapabilitySet::BPF, CapabilitySet::PERFMON];
    assert!(missing_in(CapabilitySet::SYS_ADMIN).is_empty() && missing_in(bpf | perfmon).is_empty());
    assert_eq!(missing_in(bpf), ["CAP_PERFMON"]);
    assert_eq!(missing_in(perfmon), ["CAP_BPF"]);
    assert_eq!(all(&missing_in(CapabilitySet::empty())), "CAP_BPF and CAP_PERFMON are");
}

#[test]
fn a_release_is_compared_by_its_numbers() {
    assert_eq!(version("5.10.0-28-amd64"), Some((5, 10)));
    assert_eq!(version("6.18-rc1"), Some((6, 18)));
    assert!(version("5.9.1") < Some(MEMORY_CGROUP) && version("5.11.0") >= Some(MEMORY_CGROUP));
    assert_eq!([version("six"), version("")], [None, None]);
}

#[test]
fn an_error_is_one_line() {
    let error = io::Error::other("one\n  two\n");
    assert_eq!(chain(&error), "one two");
}
