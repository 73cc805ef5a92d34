//! Classic BPF socket filters (`SO_ATTACH_FILTER`): programs that decide how much of each datagram
//! is queued.
//!
//! The `differential` tool of `pmon-testkit` compares them with the kernel's.

use pmon_core::Cpu;
use rustix::io::Errno;

use instruction::Instruction;
use machine::FilterMachine;

mod check;
mod instruction;
mod machine;

pub use instruction::SockFilter;

/// A checked classic BPF program, which terminates for every datagram.
#[derive(Debug)]
#[doc(hidden)]
pub struct ClassicFilter {
    program: Box<[SockFilter]>,
    instructions: Box<[Instruction]>,
    /// The source of `SKF_AD_RANDOM`; with its fixed seed, each run returns the same numbers.
    random: oorandom::Rand32,
}

impl ClassicFilter {
    /// Checks a program.
    ///
    /// # Errors
    /// `EINVAL` if the kernel would refuse the program.
    pub fn new(program: &[SockFilter]) -> Result<Self, Errno> {
        let instructions = check::decode_and_check(program).ok_or(Errno::INVAL)?;
        Ok(Self { program: program.into(), instructions, random: oorandom::Rand32::new(0) })
    }

    /// Returns the program as it was attached.
    pub(crate) fn program(&self) -> &[SockFilter] {
        &self.program
    }

    /// Runs the program and returns the maximum number of bytes to queue; 0 rejects the datagram.
    pub fn run(&mut self, datagram: &[u8], cpu: Cpu) -> usize {
        FilterMachine::new(datagram, cpu, &mut self.random).run(&self.instructions).unwrap_or(0) as usize
    }
}
