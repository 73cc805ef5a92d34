//! The units and containers of processes. Most events are of the same few cgroups.

use std::sync::Arc;

use pmon_analysis::cgroup::CgroupIdentity;

/// Number of identities that are kept.
const IDENTITIES: usize = 16;

/// Identities of cgroups.
#[derive(Default)]
pub(super) struct Identities {
    /// The identities that were needed lately, each with its cgroup.
    known: Vec<(Arc<[u8]>, Identity)>,
    /// The next one to replace.
    next: usize,
    /// The identity of a process whose cgroup is unknown.
    unknown: Identity,
}

/// The identity that the path of a cgroup shows.
#[derive(Default)]
pub(super) struct Identity {
    pub(super) unit: Option<Vec<u8>>,
    pub(super) container_id: Option<Vec<u8>>,
    pub(super) pod_uid: Option<Vec<u8>>,
}

impl Identities {
    /// Returns the identity of a cgroup.
    pub(super) fn of(&mut self, cgroup: Option<&Arc<[u8]>>) -> &Identity {
        let Some(cgroup) = cgroup else { return &self.unknown };
        // Equal texts are usually the same one.
        let found = self.known.iter().position(|(known, _)| Arc::ptr_eq(known, cgroup));
        let at = found.unwrap_or_else(|| self.add(cgroup));
        &self.known[at].1
    }

    fn add(&mut self, cgroup: &Arc<[u8]>) -> usize {
        let CgroupIdentity { unit, container_id, pod_uid, .. } = CgroupIdentity::of(cgroup);
        let identity = Identity {
            unit: unit.map(<[u8]>::to_vec),
            container_id: container_id.map(|id| id.into_owned()),
            pod_uid: pod_uid.map(|uid| uid.into_owned()),
        };
        if self.known.len() < IDENTITIES {
            self.known.push((Arc::clone(cgroup), identity));
            return self.known.len() - 1;
        }
        let at = self.next;
        self.known[at] = (Arc::clone(cgroup), identity);
        self.next = (at + 1) % IDENTITIES;
        at
    }
}
