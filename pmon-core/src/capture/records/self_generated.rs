//! Events that the recorder causes itself. They are in the capture; output omits them by default.

use crate::ids::Tgid;
use crate::wire::{Event, EventBody};

/// Purpose of a self-generated event.
///
/// Such an event is a COMM event: a thread of the recorder renames itself to a name that no other
/// thread of the recorder has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SelfGenerated {
    /// An event of a [`Fence`](super::Fence).
    Fence,
    /// A periodic event, which shows that the kernel still delivers events.
    Heartbeat,
}

impl SelfGenerated {
    const ALL: [Self; 2] = [Self::Fence, Self::Heartbeat];

    /// Returns the thread's name, at most 15 bytes.
    pub fn comm(self) -> &'static str {
        match self {
            Self::Fence => "pmon/fence",
            Self::Heartbeat => "pmon/heartbeat",
        }
    }

    /// Returns the purpose of `event` if the recorder with process id `recorder` generated it. No
    /// other process can forge such an event, because only threads of a process can rename its
    /// threads.
    #[inline]
    pub fn of(event: &Event, recorder: Tgid) -> Option<Self> {
        let EventBody::Comm { task, comm } = event.body else { return None };
        if task.tgid != recorder {
            return None;
        }
        Self::ALL.into_iter().find(|purpose| purpose.comm().as_bytes() == comm.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Comm;
    use crate::{Cpu, MonoNs, Seq, Task};

    #[test]
    fn only_renames_of_the_recorders_own_threads_to_these_names_count() {
        let event = |tgid, name: &str| {
            let mut comm = Comm::default();
            comm.0[..name.len()].copy_from_slice(name.as_bytes());
            let body = EventBody::Comm { task: Task::new(tgid + 1, tgid), comm };
            Event { time: MonoNs(0), seq: Seq(0), cpu: Cpu(0), body }
        };
        let purpose = |event| SelfGenerated::of(&event, Tgid(7));
        assert_eq!(purpose(event(7, "pmon/fence")), Some(SelfGenerated::Fence));
        assert_eq!(purpose(event(7, "pmon/heartbeat")), Some(SelfGenerated::Heartbeat));
        assert_eq!(purpose(event(7, "pmon/fenc")), None);
        assert_eq!(purpose(event(8, "pmon/fence")), None);
        assert!(SelfGenerated::ALL.iter().all(|purpose| purpose.comm().len() <= 15));
    }
}
