//! The verification of a program before it is attached.

use super::instruction::{Instruction, LoadSource, RET, SockFilter};

/// The maximum number of instructions (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;

/// Decodes a program, or returns `None` if the kernel would refuse it.
///
/// All instructions must be known, all jumps must stay within the program, and no memory cell may
/// be read that is not written on every path that leads there.
pub(super) fn decode_and_check(program: &[SockFilter]) -> Option<Box<[Instruction]>> {
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
