//! The instructions of classic BPF, and their decoding.
//!
//! After `bpf_check_classic` and `convert_bpf_extensions` of `net/core/filter.c`.

/// The number of cells of `M[]` (`BPF_MEMWORDS`).
pub(super) const CELLS: usize = 16;
/// Loads from this offset on read properties of the datagram instead of its bytes (`SKF_AD_OFF`).
const ANCILLARY_OFFSET: u32 = -0x1000_i32 as u32;

// Instruction classes (`BPF_CLASS`).
const LD: u16 = 0;
const LDX: u16 = 1;
const ST: u16 = 2;
const STX: u16 = 3;
const ALU: u16 = 4;
const JMP: u16 = 5;
pub(super) const RET: u16 = 6;
const MISC: u16 = 7;
/// The bit that selects the index register as operand instead of `k` (`BPF_X`).
const SRC_X: u16 = 8;

/// An instruction of a classic BPF filter (`struct sock_filter`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SockFilter {
    /// The operation, made of the `BPF_*` constants.
    pub code: u16,
    /// Number of instructions to skip if the test is true.
    pub jt: u8,
    /// Number of instructions to skip if the test is false.
    pub jf: u8,
    /// The operand: a number, an offset, or the index of a memory cell.
    pub k: u32,
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    LoadA(LoadSource),
    LoadX(LoadSource),
    StoreA(usize),
    StoreX(usize),
    Compute(Arithmetic, Operand),
    Negate,
    Jump(u32),
    Branch { test: BranchTest, operand: Operand, if_true: u8, if_false: u8 },
    Return(u32),
    ReturnA,
    AToX,
    XToA,
}

/// What a load instruction reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoadSource {
    Constant(u32),
    Cell(usize),
    DatagramLen,
    /// A number of bytes at an offset.
    Bytes(usize, u32),
    /// A number of bytes at an offset from the index register.
    IndexedBytes(usize, u32),
    /// The length of the IP header at an offset.
    IpHeaderLen(u32),
    /// The offset of the first netlink attribute with the type in the index register, searched from
    /// the accumulator on.
    Attribute,
    /// The offset of such an attribute within the attribute at the accumulator.
    NestedAttribute,
    Cpu,
    Random,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    K(u32),
    X,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Or,
    And,
    Lsh,
    Rsh,
    Mod,
    Xor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BranchTest {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBitSet,
}

impl SockFilter {
    /// Decodes the instruction, or returns `None` if the kernel would refuse it.
    pub(super) fn decode(&self) -> Option<Instruction> {
        let Self { code, jt, jf, k } = *self;
        let rest = code & !7;
        let operand = if rest & SRC_X == 0 { Operand::K(k) } else { Operand::X };
        Some(match (code & 7, rest) {
            (LD, 0x00) => Instruction::LoadA(LoadSource::Constant(k)),
            (LD, 0x60) => Instruction::LoadA(LoadSource::Cell(cell(k)?)),
            (LD, 0x80) => Instruction::LoadA(LoadSource::DatagramLen),
            (LD, 0x20 | 0x28 | 0x30) if k >= ANCILLARY_OFFSET => ancillary(k - ANCILLARY_OFFSET)?,
            (LD, 0x20 | 0x28 | 0x30) => Instruction::LoadA(LoadSource::Bytes(size(rest), k)),
            (LD, 0x40 | 0x48 | 0x50) => Instruction::LoadA(LoadSource::IndexedBytes(size(rest), k)),
            (LDX, 0x00) => Instruction::LoadX(LoadSource::Constant(k)),
            (LDX, 0x60) => Instruction::LoadX(LoadSource::Cell(cell(k)?)),
            (LDX, 0x80) => Instruction::LoadX(LoadSource::DatagramLen),
            (LDX, 0xb0) => Instruction::LoadX(LoadSource::IpHeaderLen(k)),
            (ST, 0) => Instruction::StoreA(cell(k)?),
            (STX, 0) => Instruction::StoreX(cell(k)?),
            (ALU, 0x80) => Instruction::Negate,
            (ALU, _) => Instruction::Compute(arithmetic(rest & !SRC_X, operand)?, operand),
            (JMP, 0) => Instruction::Jump(k),
            (JMP, _) => {
                let test = match rest & !SRC_X {
                    0x10 => BranchTest::Equal,
                    0x20 => BranchTest::Greater,
                    0x30 => BranchTest::GreaterOrEqual,
                    0x40 => BranchTest::AnyBitSet,
                    _ => return None,
                };
                Instruction::Branch { test, operand, if_true: jt, if_false: jf }
            }
            (RET, 0x00) => Instruction::Return(k),
            (RET, 0x10) => Instruction::ReturnA,
            (MISC, 0x00) => Instruction::AToX,
            (MISC, 0x80) => Instruction::XToA,
            _ => return None,
        })
    }
}

/// Returns the load of an ancillary value (`SKF_AD_*`) of a datagram that came over no network.
fn ancillary(what: u32) -> Option<Instruction> {
    Some(match what {
        // Interface index and type: without a device, the kernel's program returns the accumulator.
        8 | 28 => Instruction::ReturnA,
        12 => Instruction::LoadA(LoadSource::Attribute),
        16 => Instruction::LoadA(LoadSource::NestedAttribute),
        36 => Instruction::LoadA(LoadSource::Cpu),
        40 => Instruction::Compute(Arithmetic::Xor, Operand::X),
        56 => Instruction::LoadA(LoadSource::Random),
        // Protocol, type, mark, queue, hash, VLAN, payload.
        0 | 4 | 20 | 24 | 32 | 44 | 48 | 52 | 60 => Instruction::LoadA(LoadSource::Constant(0)),
        _ => return None,
    })
}

fn cell(k: u32) -> Option<usize> {
    Some(k as usize).filter(|&cell| cell < CELLS)
}

/// Returns the operand size in bytes (`BPF_SIZE`).
fn size(rest: u16) -> usize {
    match rest & 0x18 {
        0x00 => 4,
        0x08 => 2,
        _ => 1,
    }
}

fn arithmetic(op: u16, operand: Operand) -> Option<Arithmetic> {
    Some(match (op, operand) {
        (0x30 | 0x90, Operand::K(0)) | (0x60 | 0x70, Operand::K(32..)) => return None,
        (0x00, _) => Arithmetic::Add,
        (0x10, _) => Arithmetic::Sub,
        (0x20, _) => Arithmetic::Mul,
        (0x30, _) => Arithmetic::Div,
        (0x40, _) => Arithmetic::Or,
        (0x50, _) => Arithmetic::And,
        (0x60, _) => Arithmetic::Lsh,
        (0x70, _) => Arithmetic::Rsh,
        (0x90, _) => Arithmetic::Mod,
        (0xa0, _) => Arithmetic::Xor,
        _ => return None,
    })
}
