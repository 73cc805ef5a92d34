//! The machine that runs a filter, for one datagram.

use pmon_core::Cpu;

use super::{Arithmetic, CELLS, Operand, Step, Test, Value};

/// `SKF_NET_OFF`: from here on, offsets count from the network header; a netlink datagram's is where it begins. Below, they count from the link's,
/// which it has not.
const NET_OFF: i32 = -0x10_0000;
/// `sizeof(struct nlattr)`, and what its type is cut to, `NLA_TYPE_MASK`.
const NLATTR: usize = 4;
const TYPE: u32 = 0x3fff;

/// See the module.
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

    /// What the program returns; `None` if it reads what is not there, or divides by 0. It only jumps forward.
    pub(super) fn run(mut self, steps: &[Step]) -> Option<u32> {
        let mut at = 0;
        loop {
            let step = *steps.get(at)?;
            at += 1;
            match step {
                Step::Load(value) => self.a = self.value(value)?,
                Step::LoadX(value) => self.x = self.value(value)?,
                Step::Store(cell) => self.cells[cell] = self.a,
                Step::StoreX(cell) => self.cells[cell] = self.x,
                Step::Compute(arithmetic, operand) => {
                    self.a = compute(arithmetic, self.a, self.operand(operand))?;
                }
                Step::Negate => self.a = self.a.wrapping_neg(),
                Step::Jump(over) => at += over as usize,
                Step::Branch { test, than, yes, no } => {
                    let than = self.operand(than);
                    let is_true = match test {
                        Test::Equal => self.a == than,
                        Test::Greater => self.a > than,
                        Test::GreaterOrEqual => self.a >= than,
                        Test::Set => self.a & than != 0,
                    };
                    at += usize::from(if is_true { yes } else { no });
                }
                Step::Return(result) => return Some(result),
                Step::ReturnA => return Some(self.a),
                Step::AToX => self.x = self.a,
                Step::XToA => self.a = self.x,
            }
        }
    }

    fn operand(&self, operand: Operand) -> u32 {
        match operand {
            Operand::K(k) => k,
            Operand::X => self.x,
        }
    }

    fn value(&mut self, value: Value) -> Option<u32> {
        Some(match value {
            Value::Constant(value) => value,
            Value::Cell(cell) => self.cells[cell],
            Value::Len => self.datagram.len() as u32,
            Value::Bytes(size, at) => self.bytes(size, at)?,
            Value::Indexed(size, at) => self.bytes(size, at.wrapping_add(self.x))?,
            Value::Header(at) => (self.bytes(1, at)? & 0xf) * 4,
            Value::Attribute => self.attribute(),
            Value::Nested => self.nested(),
            Value::Cpu => self.cpu.0,
            Value::Random => self.random.rand_u32(),
        })
    }

    /// Bytes of the datagram, as a number in network byte order.
    fn bytes(&self, size: usize, at: u32) -> Option<u32> {
        let at = match at.cast_signed() {
            at @ 0.. => at,
            at @ NET_OFF.. => at - NET_OFF,
            _ => return None,
        } as usize;
        let bytes = self.datagram.get(at..at + size)?;
        Some(bytes.iter().fold(0, |number, &byte| number << 8 | u32::from(byte)))
    }

    /// `bpf_skb_get_nlattr`; 0 if there is none.
    fn attribute(&self) -> u32 {
        let begin = self.a as usize;
        self.datagram.get(begin..).and_then(|bytes| find(bytes, self.x)).map_or(0, |at| (begin + at) as u32)
    }

    /// `bpf_skb_get_nlattr_nest`.
    fn nested(&self) -> u32 {
        let begin = self.a as usize;
        let inside = || {
            let bytes = self.datagram.get(begin..)?;
            let bytes = bytes.get(NLATTR..usize::from(header(bytes)?.0))?;
            find(bytes, self.x)
        };
        inside().map_or(0, |at| (begin + NLATTR + at) as u32)
    }
}

/// Length and type of the attribute that begins here.
fn header(bytes: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *bytes.first_chunk::<NLATTR>()?;
    Some((u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])))
}

/// `nla_find`: where the first attribute of that type is, of those that stand here in a row.
fn find(bytes: &[u8], of: u32) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..)?;
        let (len, kind) = header(rest)?;
        let len = usize::from(len);
        if !(NLATTR..=rest.len()).contains(&len) {
            return None;
        }
        if u32::from(kind) & TYPE == of {
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
        // By what the index register has: of that, five bits.
        Arithmetic::Lsh => a.wrapping_shl(b),
        Arithmetic::Rsh => a.wrapping_shr(b),
    })
}
