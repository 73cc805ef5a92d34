//! The interpreter of a filter program.

use pmon_core::Cpu;

use super::instruction::{Arithmetic, BranchTest, CELLS, Instruction, LoadSource, Operand};

/// From this offset on (`SKF_NET_OFF`), offsets count from the network header, which is the start
/// of a netlink datagram.
///
/// Offsets below count from the link-layer header, which a netlink datagram lacks.
const NETWORK_OFFSET: i32 = -0x10_0000;
/// The length of an attribute's header in bytes (`struct nlattr`).
const NLATTR_LEN: usize = 4;
/// The bits of an attribute's type (`NLA_TYPE_MASK`).
const NLA_TYPE_MASK: u32 = 0x3fff;

/// The registers and memory of one run, and the datagram that it examines.
pub(super) struct FilterMachine<'a> {
    a: u32,
    x: u32,
    cells: [u32; CELLS],
    datagram: &'a [u8],
    cpu: Cpu,
    random: &'a mut oorandom::Rand32,
}

impl<'a> FilterMachine<'a> {
    pub(super) fn new(datagram: &'a [u8], cpu: Cpu, random: &'a mut oorandom::Rand32) -> Self {
        Self { a: 0, x: 0, cells: [0; CELLS], datagram, cpu, random }
    }

    /// Runs the program and returns its result, or `None` if it reads beyond the datagram or
    /// divides by 0.
    ///
    /// The program terminates because all jumps go forward.
    pub(super) fn run(mut self, instructions: &[Instruction]) -> Option<u32> {
        let mut at = 0;
        loop {
            let instruction = *instructions.get(at)?;
            at += 1;
            match instruction {
                Instruction::LoadA(source) => self.a = self.load(source)?,
                Instruction::LoadX(source) => self.x = self.load(source)?,
                Instruction::StoreA(cell) => self.cells[cell] = self.a,
                Instruction::StoreX(cell) => self.cells[cell] = self.x,
                Instruction::Compute(arithmetic, operand) => {
                    self.a = compute(arithmetic, self.a, self.operand(operand))?;
                }
                Instruction::Negate => self.a = self.a.wrapping_neg(),
                Instruction::Jump(skip) => at += skip as usize,
                Instruction::Branch { test, operand, if_true, if_false } => {
                    let operand = self.operand(operand);
                    let is_true = match test {
                        BranchTest::Equal => self.a == operand,
                        BranchTest::Greater => self.a > operand,
                        BranchTest::GreaterOrEqual => self.a >= operand,
                        BranchTest::AnyBitSet => self.a & operand != 0,
                    };
                    at += usize::from(if is_true { if_true } else { if_false });
                }
                Instruction::Return(result) => return Some(result),
                Instruction::ReturnA => return Some(self.a),
                Instruction::AToX => self.x = self.a,
                Instruction::XToA => self.a = self.x,
            }
        }
    }

    fn operand(&self, operand: Operand) -> u32 {
        match operand {
            Operand::K(k) => k,
            Operand::X => self.x,
        }
    }

    fn load(&mut self, source: LoadSource) -> Option<u32> {
        Some(match source {
            LoadSource::Constant(value) => value,
            LoadSource::Cell(cell) => self.cells[cell],
            LoadSource::DatagramLen => self.datagram.len() as u32,
            LoadSource::Bytes(size, at) => self.bytes(size, at)?,
            LoadSource::IndexedBytes(size, at) => self.bytes(size, at.wrapping_add(self.x))?,
            LoadSource::IpHeaderLen(at) => (self.bytes(1, at)? & 0xf) * 4,
            LoadSource::Attribute => self.attribute(),
            LoadSource::NestedAttribute => self.nested(),
            LoadSource::Cpu => self.cpu.0,
            LoadSource::Random => self.random.rand_u32(),
        })
    }

    /// Reads `size` bytes of the datagram as a number in network byte order.
    fn bytes(&self, size: usize, at: u32) -> Option<u32> {
        let at = match at.cast_signed() {
            at @ 0.. => at,
            at @ NETWORK_OFFSET.. => at - NETWORK_OFFSET,
            _ => return None,
        } as usize;
        let bytes = self.datagram.get(at..at + size)?;
        Some(bytes.iter().fold(0, |number, &byte| number << 8 | u32::from(byte)))
    }

    /// Returns the offset of an attribute, or 0 without one (`bpf_skb_get_nlattr`).
    fn attribute(&self) -> u32 {
        let begin = self.a as usize;
        self.datagram.get(begin..).and_then(|bytes| find(bytes, self.x)).map_or(0, |at| (begin + at) as u32)
    }

    /// Returns the offset of a nested attribute, or 0 without one (`bpf_skb_get_nlattr_nest`).
    fn nested(&self) -> u32 {
        let begin = self.a as usize;
        let inside = || {
            let bytes = self.datagram.get(begin..)?;
            let bytes = bytes.get(NLATTR_LEN..usize::from(header(bytes)?.0))?;
            find(bytes, self.x)
        };
        inside().map_or(0, |at| (begin + NLATTR_LEN + at) as u32)
    }
}

/// Returns length and type of the attribute at the start of `bytes`.
fn header(bytes: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *bytes.first_chunk::<NLATTR_LEN>()?;
    Some((u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])))
}

/// Returns the offset of the first attribute of a type in a sequence of attributes (`nla_find`).
fn find(bytes: &[u8], wanted: u32) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..)?;
        let (len, kind) = header(rest)?;
        let len = usize::from(len);
        if !(NLATTR_LEN..=rest.len()).contains(&len) {
            return None;
        }
        if u32::from(kind) & NLA_TYPE_MASK == wanted {
            return Some(at);
        }
        at += len.next_multiple_of(4);
    }
}

fn compute(arithmetic: Arithmetic, a: u32, b: u32) -> Option<u32> {
    Some(match arithmetic {
        Arithmetic::Add => a.wrapping_add(b),
        Arithmetic::Sub => a.wrapping_sub(b),
        Arithmetic::Mul => a.wrapping_mul(b),
        Arithmetic::Div => a.checked_div(b)?,
        Arithmetic::Mod => a.checked_rem(b)?,
        Arithmetic::Or => a | b,
        Arithmetic::And => a & b,
        Arithmetic::Xor => a ^ b,
        // The kernel uses the low five bits of the index register.
        Arithmetic::Lsh => a.wrapping_shl(b),
        Arithmetic::Rsh => a.wrapping_shr(b),
    })
}
