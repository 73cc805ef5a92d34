//! Classic BPF socket filters (`SO_ATTACH_FILTER`): programs that decide how much of each datagram
//! is queued.
//!
//! The `differential` tool of `pmon-testkit` compares them with the kernel's.

use pmon_core::Cpu;
use rustix::io::Errno;

use instruction::{Instruction, LoadSource, RET};
use machine::FilterMachine;

mod instruction;
mod machine;

pub use instruction::SockFilter;

/// The maximum number of instructions (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;

/// A checked classic BPF program, which terminates for every datagram.
#[derive(Debug)]
#[doc(hidden)]
pub struct ClassicFilter {
    /// The program as it was attached.
    pub(crate) program: Box<[SockFilter]>,
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
        let instructions = decode_and_check(program).ok_or(Errno::INVAL)?;
        Ok(Self { program: program.into(), instructions, random: oorandom::Rand32::new(0) })
    }

    /// Runs the program and returns the maximum number of bytes to queue; 0 rejects the datagram.
    pub fn run(&mut self, datagram: &[u8], cpu: Cpu) -> usize {
        FilterMachine::new(datagram, cpu, &mut self.random).run(&self.instructions).unwrap_or(0) as usize
    }
}

/// Decodes a program, or returns `None` if the kernel would refuse it.
///
/// All instructions must be known, all jumps must stay within the program, and no memory cell may
/// be read that is not written on every path that leads there.
fn decode_and_check(program: &[SockFilter]) -> Option<Box<[Instruction]>> {
    if !(1..=MAX_INSTRUCTIONS).contains(&program.len()) {
        return None;
    }
    let instructions: Box<[Instruction]> = program.iter().map(SockFilter::decode).collect::<Option<_>>()?;
    // An ancillary load can decode as a return; as the last instruction, the kernel refuses it.
    if program.last()?.code & 7 != RET {
        return None;
    }
    // For each instruction, the cells that are written on every jump to it.
    let mut written_at_target = vec![u16::MAX; instructions.len()];
    let mut written = 0;
    for (at, instruction) in instructions.iter().enumerate() {
        written &= written_at_target[at];
        match *instruction {
            Instruction::StoreA(cell) | Instruction::StoreX(cell) => written |= 1 << cell,
            Instruction::LoadA(LoadSource::Cell(cell)) | Instruction::LoadX(LoadSource::Cell(cell))
                if written & 1 << cell == 0 =>
            {
                return None;
            }
            Instruction::Jump(skip) => {
                *written_at_target.get_mut((at + 1).checked_add(skip as usize)?)? &= written;
                written = u16::MAX;
            }
            Instruction::Branch { if_true, if_false, .. } => {
                for skip in [if_true, if_false] {
                    *written_at_target.get_mut(at + 1 + usize::from(skip))? &= written;
                }
                written = u16::MAX;
            }
            _ => {}
        }
    }
    Some(instructions)
}
