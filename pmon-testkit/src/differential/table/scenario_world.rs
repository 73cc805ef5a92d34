//! Scenarios in a program under replay.
//!
//! The program makes the system calls of the scenarios on the fake kernel's sockets, so that the
//! table compares the model with the model as a program sees it. The program's own forks and
//! renames are not events under replay. Instead, it requests events from the world of the replay,
//! by `getpgid` of a process id that encodes the request ([`WorldRequest`]).

use std::fs;

use pmon_core::Cpu;

use super::kernel::{ChildAction, ChildEnd, EmitAction, KernelUnderTest as _};
use super::model::ModelKernel;

/// Number of CPUs of the fake kernel.
const CPUS: usize = 256;
/// The bit that distinguishes requests from process ids.
const MARK: u32 = 1 << 30;
const MAX_ACTIONS: usize = 4;

/// A request to the world of the replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WorldRequest {
    /// Acknowledges requests on a CPU from now on; returns the id of the process whose events the
    /// scenarios cause.
    Begin { cpu: u32 },
    /// The process renames itself on a CPU.
    Rename { cpu: u32 },
    /// The process starts a child; returns the id of the child.
    Child { cpu: u32, actions: Vec<ChildAction>, end: ChildEnd },
}

impl WorldRequest {
    /// Returns the request for an action on the CPU with this number.
    pub(crate) fn of(cpu: u32, action: EmitAction) -> Self {
        match action {
            EmitAction::Rename => Self::Rename { cpu },
            EmitAction::Child { actions, end } => Self::Child { cpu, actions: actions.to_vec(), end },
        }
    }

    /// Encodes the request as a process id: the mark, the kind, the actions, how the child ends,
    /// its exit code, and the CPU.
    pub(crate) fn encode(&self) -> u32 {
        match self {
            Self::Begin { cpu } => MARK | cpu,
            Self::Rename { cpu } => MARK | 1 << 26 | cpu,
            Self::Child { cpu, actions, end } => {
                assert!(actions.len() <= MAX_ACTIONS, "{} actions", actions.len());
                let action = |action: &ChildAction| match action {
                    ChildAction::Session => 1,
                    ChildAction::Group => 2,
                    ChildAction::User => 3,
                };
                let actions = actions.iter().rev().fold(0, |all, each| all << 2 | action(each));
                let (end, code) = match *end {
                    ChildEnd::Code(code) => (0, code),
                    ChildEnd::Killed => (1, 0),
                    ChildEnd::Aborted => (2, 0),
                };
                MARK | 2 << 26 | actions << 18 | end << 16 | u32::from(code) << 8 | cpu
            }
        }
    }

    /// Decodes a process id; `None` if it is not a request.
    fn decode(id: u32) -> Option<Self> {
        if id & MARK == 0 {
            return None;
        }
        let (kind, cpu) = (id >> 26 & 0xF, id & 0xFF);
        Some(match kind {
            0 => Self::Begin { cpu },
            1 => Self::Rename { cpu },
            _ => {
                let actions = (0..MAX_ACTIONS).filter_map(|at| match id >> (18 + 2 * at) & 3 {
                    1 => Some(ChildAction::Session),
                    2 => Some(ChildAction::Group),
                    3 => Some(ChildAction::User),
                    _ => None,
                });
                let end = match id >> 16 & 3 {
                    0 => ChildEnd::Code((id >> 8) as u8),
                    1 => ChildEnd::Killed,
                    _ => ChildEnd::Aborted,
                };
                Self::Child { cpu, actions: actions.collect(), end }
            }
        })
    }
}

/// The fake kernel of the replay, which emits the events that the program requests.
pub struct ScenarioWorld {
    model: ModelKernel,
    /// The CPU on which requests are acknowledged.
    home: Cpu,
}

impl Default for ScenarioWorld {
    fn default() -> Self {
        let rmem_max = fs::read_to_string("/proc/sys/net/core/rmem_max");
        let rmem_max = rmem_max.ok().and_then(|limit| limit.trim().parse().ok());
        let default = ModelKernel::default().rmem_max();
        Self { model: ModelKernel::of(CPUS, rmem_max.unwrap_or(default)), home: Cpu(0) }
    }
}

impl ScenarioWorld {
    /// Returns the kernel whose sockets the program gets.
    pub fn kernel(&mut self) -> &mut pmon_fake::Kernel {
        &mut self.model.kernel
    }

    /// Executes the request that a process id encodes and returns the result, a process id; `None`
    /// if the id is not a request.
    pub fn request(&mut self, id: u32) -> Option<u32> {
        let own = self.model.own().0;
        Some(match WorldRequest::decode(id)? {
            WorldRequest::Begin { cpu } => {
                self.home = Cpu(cpu);
                self.on(cpu, |_| own)
            }
            WorldRequest::Rename { cpu } => self.on(cpu, |model| {
                model.rename();
                own
            }),
            WorldRequest::Child { cpu, actions, end } => self.on(cpu, |model| model.child(&actions, end)),
        })
    }

    /// Runs `act` with the kernel on a CPU.
    fn on<R>(&mut self, cpu: u32, act: impl FnOnce(&mut ModelKernel) -> R) -> R {
        self.kernel().run_on(Cpu(cpu));
        let result = act(&mut self.model);
        let home = self.home;
        self.kernel().run_on(home);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_decoded_as_they_were_encoded() {
        let child =
            |actions: &[ChildAction], end| WorldRequest::Child { cpu: 3, actions: actions.to_vec(), end };
        for request in [
            WorldRequest::Begin { cpu: 1 },
            WorldRequest::Rename { cpu: 255 },
            child(&[], ChildEnd::Code(255)),
            child(&[ChildAction::User, ChildAction::Session], ChildEnd::Killed),
            child(&[ChildAction::Group; MAX_ACTIONS], ChildEnd::Aborted),
        ] {
            assert_eq!(WorldRequest::decode(request.encode()), Some(request));
        }
        assert_eq!(WorldRequest::decode(4_194_304), None);
    }
}
