//! The header of a capture that `replay --record` writes.

use pmon_analysis::Filter;
use pmon_core::capture::{Header, Meta, TransportInfo};
use pmon_core::wire::ByteOrder;
use pmon_fake::{FaultRule, FaultScript};

use super::Playback;
use crate::args::ReplayArgs;

impl Playback<'_> {
    /// Returns the header of the new capture: the original header with another UUID, which depends
    /// on the original one and on the options only.
    pub(super) fn new_header(&self) -> Header {
        let original = self.header.clone();
        let mut header = original.unwrap_or(Header {
            uuid: [0; 16],
            byte_order: ByteOrder::NATIVE,
            meta: Meta::default(),
        });
        let uuid: String = header.uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        let Self { args: ReplayArgs { seed, .. }, from, until, script, filter, .. } = self;
        let (filter, faults) = (filter_fingerprint(filter.as_ref()), script_fingerprint(script));
        let fingerprint = format!("{uuid} {from:?} {until:?} {filter} {faults} {seed}");
        header.uuid[..4].copy_from_slice(&crc32c::crc32c(fingerprint.as_bytes()).to_le_bytes());
        header.byte_order = ByteOrder::NATIVE;
        let faults =
            if script.rules().is_empty() { String::new() } else { format!(", with faults, seed {seed}") };
        header.meta.transport = TransportInfo { name: "replay".into(), why: format!("of {uuid}{faults}") };
        header.meta.previous = None;
        header
    }
}

/// Returns a filter as text. The text decides the UUID of a recorded replay, so its form does not
/// change: the same replay has the same UUID with every version of pmon.
fn filter_fingerprint(filter: Option<&Filter>) -> String {
    let Some(filter) = filter else { return "None".to_owned() };
    let Filter { kinds, pids, tree, name, since, until, hide_threads, hide_self_generated } = filter;
    let tree = tree.as_ref().map_or_else(
        || "None".to_owned(),
        |tree| {
            let root = tree.root();
            format!(
                "Some(Tree {{ root: {root:?}, members: PidSet {{ bits: [] }}, scan: {{}}, partial: None }})"
            )
        },
    );
    format!(
        "Some(Filter {{ kinds: {kinds:?}, pids: {pids:?}, tree: {tree}, name: {name:?}, since: {since:?}, \
         until: {until:?}, hide_threads: {hide_threads:?}, hide_own: {hide_self_generated:?} }})"
    )
}

/// Returns a fault script as text, in a form that does not change; see [`filter_fingerprint`].
fn script_fingerprint(script: &FaultScript) -> String {
    let rules: Vec<String> = script
        .rules()
        .iter()
        .map(|FaultRule { trigger, fault, cpu }| {
            let fault = format!("{fault:?}").replace("min:", "from:").replace("max:", "to:");
            format!("Rule {{ place: {trigger:?}, fault: {fault}, cpu: {cpu:?} }}")
        })
        .collect();
    format!("Script([{}])", rules.join(", "))
}

#[cfg(test)]
mod tests {
    use pmon_analysis::filter::TimeBound;
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
    }
}
