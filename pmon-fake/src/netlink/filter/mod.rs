//! Classic socket filters, `SO_ATTACH_FILTER`: a program that is asked for each datagram how much of it is queued.
//!
//! After `bpf_check_classic` and `convert_bpf_extensions` of `net/core/filter.c`; `pmon-testkit/src/differential` compares the two.

use pmon_core::Cpu;
use rustix::io::Errno;

use crate::netlink::filter::machine::FilterMachine;

mod machine;

/// `BPF_MAXINSNS`.
const LONGEST: usize = 4096;
/// `BPF_MEMWORDS`: the cells of `M[]`.
const CELLS: usize = 16;
/// `SKF_AD_OFF`: from here on, offsets mean what is known of the datagram.
const AD_OFF: u32 = -0x1000_i32 as u32;

// `BPF_CLASS` of a code.
const LD: u16 = 0;
const LDX: u16 = 1;
const ST: u16 = 2;
const STX: u16 = 3;
const ALU: u16 = 4;
const JMP: u16 = 5;
const RET: u16 = 6;
const MISC: u16 = 7;
/// `BPF_X`: the operand is the index register, else `k`.
const SRC_X: u16 = 8;

/// An instruction of a classic filter, `struct sock_filter`: its code, how many instructions it jumps over if its test is true and if not,
/// and its operand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SockFilter {
    /// What it does, of the `BPF_*` constants.
    pub code: u16,
    /// How many instructions it passes over where its test holds.
    pub jt: u8,
    /// How many where it does not.
    pub jf: u8,
    /// Its operand: a number, an offset, a cell of the memory.
    pub k: u32,
}

/// A program that ends, whatever it is given.
#[derive(Debug)]
#[doc(hidden)]
pub struct ClassicFilter {
    program: Box<[SockFilter]>,
    steps: Box<[Step]>,
    /// Not the kernel's luck: the same numbers each time.
    random: oorandom::Rand32,
}

/// An instruction that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// To the accumulator.
    Load(Value),
    /// To the index register.
    LoadX(Value),
    Store(usize),
    StoreX(usize),
    Compute(Arithmetic, Operand),
    Negate,
    Jump(u32),
    Branch {
        test: Test,
        than: Operand,
        yes: u8,
        no: u8,
    },
    Return(u32),
    ReturnA,
    AToX,
    XToA,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Constant(u32),
    Cell(usize),
    Len,
    /// So many bytes at an offset.
    Bytes(usize, u32),
    /// The same, from where the index register points.
    Indexed(usize, u32),
    /// The length of an IP header that begins there.
    Header(u32),
    /// Where, from the accumulator on, the attribute is whose type the index register has.
    Attribute,
    /// The same inside the attribute at the accumulator.
    Nested,
    Cpu,
    Random,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    K(u32),
    X,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arithmetic {
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
enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
    Set,
}

impl ClassicFilter {
    /// # Errors
    /// `EINVAL`, where the kernel would not have the program.
    pub fn new(program: &[SockFilter]) -> Result<Self, Errno> {
        let steps = check(program).ok_or(Errno::INVAL)?;
        Ok(Self { program: program.into(), steps, random: oorandom::Rand32::new(0) })
    }

    /// As it was attached.
    pub(crate) fn program(&self) -> &[SockFilter] {
        &self.program
    }

    /// How many bytes of a datagram are queued, if it has so many; 0: it is not.
    pub fn run(&mut self, datagram: &[u8], cpu: Cpu) -> usize {
        FilterMachine::new(datagram, cpu, &mut self.random).run(&self.steps).unwrap_or(0) as usize
    }
}

/// The instructions, if all are known, lead to others or the end, and read no cell that was not written.
fn check(program: &[SockFilter]) -> Option<Box<[Step]>> {
    if !(1..=LONGEST).contains(&program.len()) {
        return None;
    }
    let steps: Box<[Step]> = program.iter().map(SockFilter::step).collect::<Option<_>>()?;
    // What stands for a return elsewhere is no end.
    if program.last()?.code & 7 != RET {
        return None;
    }
    // Which cells are written on each way that leads here.
    let mut on_ways = vec![u16::MAX; steps.len()];
    let mut written = 0;
    for (at, step) in steps.iter().enumerate() {
        written &= on_ways[at];
        match *step {
            Step::Store(cell) | Step::StoreX(cell) => written |= 1 << cell,
            Step::Load(Value::Cell(cell)) | Step::LoadX(Value::Cell(cell)) if written & 1 << cell == 0 => {
                return None;
            }
            Step::Jump(over) => {
                *on_ways.get_mut((at + 1).checked_add(over as usize)?)? &= written;
                written = u16::MAX;
            }
            Step::Branch { yes, no, .. } => {
                for over in [yes, no] {
                    *on_ways.get_mut(at + 1 + usize::from(over))? &= written;
                }
                written = u16::MAX;
            }
            _ => {}
        }
    }
    Some(steps)
}

impl SockFilter {
    fn step(&self) -> Option<Step> {
        let Self { code, jt, jf, k } = *self;
        let rest = code & !7;
        let operand = if rest & SRC_X == 0 { Operand::K(k) } else { Operand::X };
        Some(match (code & 7, rest) {
            (LD, 0x00) => Step::Load(Value::Constant(k)),
            (LD, 0x60) => Step::Load(Value::Cell(cell(k)?)),
            (LD, 0x80) => Step::Load(Value::Len),
            (LD, 0x20 | 0x28 | 0x30) if k >= AD_OFF => known(k - AD_OFF)?,
            (LD, 0x20 | 0x28 | 0x30) => Step::Load(Value::Bytes(size(rest), k)),
            (LD, 0x40 | 0x48 | 0x50) => Step::Load(Value::Indexed(size(rest), k)),
            (LDX, 0x00) => Step::LoadX(Value::Constant(k)),
            (LDX, 0x60) => Step::LoadX(Value::Cell(cell(k)?)),
            (LDX, 0x80) => Step::LoadX(Value::Len),
            (LDX, 0xb0) => Step::LoadX(Value::Header(k)),
            (ST, 0) => Step::Store(cell(k)?),
            (STX, 0) => Step::StoreX(cell(k)?),
            (ALU, 0x80) => Step::Negate,
            (ALU, _) => Step::Compute(arithmetic(rest & !SRC_X, operand)?, operand),
            (JMP, 0) => Step::Jump(k),
            (JMP, _) => {
                let test = match rest & !SRC_X {
                    0x10 => Test::Equal,
                    0x20 => Test::Greater,
                    0x30 => Test::GreaterOrEqual,
                    0x40 => Test::Set,
                    _ => return None,
                };
                Step::Branch { test, than: operand, yes: jt, no: jf }
            }
            (RET, 0x00) => Step::Return(k),
            (RET, 0x10) => Step::ReturnA,
            (MISC, 0x00) => Step::AToX,
            (MISC, 0x80) => Step::XToA,
            _ => return None,
        })
    }
}

/// `SKF_AD_*`, of a datagram that came over no network.
fn known(what: u32) -> Option<Step> {
    Some(match what {
        // It has no device: the kernel's program ends there, with what the accumulator has.
        8 | 28 => Step::ReturnA,
        12 => Step::Load(Value::Attribute),
        16 => Step::Load(Value::Nested),
        36 => Step::Load(Value::Cpu),
        40 => Step::Compute(Arithmetic::Xor, Operand::X),
        56 => Step::Load(Value::Random),
        // Protocol, type, mark, queue, hash, VLAN, payload.
        0 | 4 | 20 | 24 | 32 | 44 | 48 | 52 | 60 => Step::Load(Value::Constant(0)),
        _ => return None,
    })
}

fn cell(k: u32) -> Option<usize> {
    Some(k as usize).filter(|&cell| cell < CELLS)
}

/// `BPF_SIZE`, in bytes.
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
