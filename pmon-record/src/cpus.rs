//! The CPUs of this machine.

use std::fs;
use std::thread;

/// Returns the CPUs that are online. If that cannot be read, returns as many as this process may
/// use.
pub(crate) fn online() -> Vec<u32> {
    list("online")
        .unwrap_or_else(|| (0..thread::available_parallelism().map_or(1, |n| n.get() as u32)).collect())
}

/// Returns the CPUs that are present and not online.
pub(crate) fn offline() -> Vec<u32> {
    let online = online();
    list("present").unwrap_or_default().into_iter().filter(|cpu| !online.contains(cpu)).collect()
}

fn list(name: &str) -> Option<Vec<u32>> {
    parse(fs::read_to_string(format!("/sys/devices/system/cpu/{name}")).ok()?.trim())
}

/// Parses a list such as `0-3,8`.
fn parse(list: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parsed_in_the_kernels_format() {
        assert_eq!(parse("0"), Some(vec![0]));
        assert_eq!(parse("0-2,8,10-11"), Some(vec![0, 1, 2, 8, 10, 11]));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn this_machine_has_an_online_cpu() {
        assert!(!online().is_empty());
        assert!(offline().iter().all(|cpu| !online().contains(cpu)));
    }
}
