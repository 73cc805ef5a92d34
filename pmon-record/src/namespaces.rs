//! The namespaces of this process, and whether process events can be received in them.

use std::fs;

use pmon_core::capture::Namespaces;

/// Inode numbers of the initial namespaces (`include/linux/proc_ns.h`; fixed since 3.8, `cgroup`
/// since 4.6, `time` since 5.6).
const INITIAL: [(&str, u64); 4] =
    [("user", 0xEFFF_FFFD), ("pid", 0xEFFF_FFFC), ("cgroup", 0xEFFF_FFFB), ("time", 0xEFFF_FFFA)];

/// Returns the namespaces that a capture records.
pub(crate) fn current() -> Namespaces {
    Namespaces { pid: inode("pid"), user: inode("user"), net: inode("net") }
}

/// Whether this process is in the initial namespace of this kind. Also `true` if that is unknown.
pub(crate) fn is_initial(kind: &str) -> bool {
    let inode = inode(kind);
    inode == 0 || INITIAL.iter().any(|&(name, initial)| name == kind && initial == inode)
}

/// Returns the number in the link `/proc/self/ns/KIND`, which is `KIND:[NUMBER]`; 0 if it cannot be
/// read.
fn inode(kind: &str) -> u64 {
    let link = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap_or_default();
    let number = link.to_str().and_then(|link| link.split_once('['));
    number.and_then(|(_, number)| number.trim_end_matches(']').parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespaces_of_this_process_have_numbers() {
        let Namespaces { pid, user, net } = current();
        assert!(pid > 0 && user > 0 && net > 0);
    }

    #[test]
    fn a_kind_that_cannot_be_read_counts_as_initial() {
        assert!(is_initial("no-such-kind"));
    }
}
