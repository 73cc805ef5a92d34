//! Events that a recorder causes to listen for: they are in the capture, and nobody wants to see them.

use crate::ids::Tgid;
use crate::wire::{Event, EventBody};

/// What an event of the recorder's own is for. It is a rename of a thread of the recorder to a name that no other
/// thread of it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SelfGenerated {
    /// A CPU was made to say something: [`crate::capture::Fence`].
    Fence,
    /// A sign of life was wanted.
    Heartbeat,
}

impl SelfGenerated {
    const ALL: [Self; 2] = [Self::Fence, Self::Heartbeat];

    /// The thread's name, at most 15 bytes.
    pub fn comm(self) -> &'static str {
        match self {
            Self::Fence => "pmon/fence",
            Self::Heartbeat => "pmon/heartbeat",
        }
    }

    /// What `event` is for, if it is of the recorder whose process is `recorder`. Nobody else can cause such an event:
    /// only threads of a process can rename its threads.
    #[inline]
    pub fn of(event: &Event, recorder: Tgid) -> Option<Self> {
        let EventBody::Comm { task, comm } = event.body else { return None };
        if task.tgid != recorder {
            return None;
        }
        Self::ALL.into_iter().find(|own| own.comm().as_bytes() == comm.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Comm;
    use crate::{Cpu, MonoNs, Seq, Task};

    #[test]
    fn only_the_recorders_own_renames_to_these_names_count() {
        let event = |tgid, name: &str| {
            let mut comm = Comm::default();
            comm.0[..name.len()].copy_from_slice(name.as_bytes());
            let body = EventBody::Comm { task: Task::new(tgid + 1, tgid), comm };
            Event { time: MonoNs(0), seq: Seq(0), cpu: Cpu(0), body }
        };
        assert_eq!(SelfGenerated::of(&event(7, "pmon/fence"), Tgid(7)), Some(SelfGenerated::Fence));
        assert_eq!(SelfGenerated::of(&event(7, "pmon/heartbeat"), Tgid(7)), Some(SelfGenerated::Heartbeat));
        assert_eq!(SelfGenerated::of(&event(7, "pmon/fenc"), Tgid(7)), None);
        assert_eq!(SelfGenerated::of(&event(8, "pmon/fence"), Tgid(7)), None);
        assert!(SelfGenerated::ALL.iter().all(|own| own.comm().len() <= 15));
    }
}
