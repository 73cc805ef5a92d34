//! The header of a capture that `replay --record` writes.

use pmon_analysis::Filter;
use pmon_analysis::filter::{Glob, ProcessCondition, Regex};
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
    let Filter { kinds, pids, tree, process, since, until, hide_threads, hide_self_generated } = filter;
    let (name, others) = (&process.comm, condition_fingerprint(process));
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
         until: {until:?}, hide_threads: {hide_threads:?}, hide_own: {hide_self_generated:?}{others} }})"
    )
}

/// Returns the conditions on a process as text, without the name; empty if there are none.
fn condition_fingerprint(condition: &ProcessCondition) -> String {
    let ProcessCondition { ends, longer_than_ns, comm: _, exe, args, uids, unit, container, cgroup } =
        condition;
    let unnamed = ProcessCondition { comm: None, ..condition.clone() };
    if unnamed.is_empty() {
        return String::new();
    }
    let ends: Vec<_> = ends.iter().map(ToString::to_string).collect();
    let [exe, unit] = [exe, unit].map(|glob| glob.as_ref().map(Glob::pattern));
    let args = args.as_ref().map(Regex::as_str);
    format!(
        ", ends: {ends:?}, longer_than: {longer_than_ns:?}, exe: {exe:?}, args: {args:?}, uids: {uids:?}, \
         unit: {unit:?}, container: {container:?}, cgroup: {cgroup:?}"
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
mod tests;
