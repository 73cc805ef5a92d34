//! Filter programs: which ones the kernel accepts, and what they compute.

use libc::{
    BPF_A, BPF_ABS, BPF_ADD, BPF_ALU, BPF_AND, BPF_B, BPF_DIV, BPF_H, BPF_IMM, BPF_IND, BPF_JA, BPF_JEQ,
    BPF_JGE, BPF_JGT, BPF_JMP, BPF_JSET, BPF_LD, BPF_LDX, BPF_LEN, BPF_LSH, BPF_MEM, BPF_MISC, BPF_MOD,
    BPF_MSH, BPF_MUL, BPF_NEG, BPF_OR, BPF_RET, BPF_RSH, BPF_ST, BPF_STX, BPF_SUB, BPF_TAX, BPF_TXA, BPF_X,
    BPF_XOR,
};

use super::filters::{guarded, jump, op, text};
use crate::differential::table::kernel::Instruction;
use crate::differential::table::run::{Scenario, ScenarioRun};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "arithmetic of a filter", without_listeners: false, perform: computed },
    Scenario { name: "loads of a filter", without_listeners: false, perform: read },
    Scenario { name: "ancillary data of a filter", without_listeners: false, perform: known },
    Scenario { name: "attributes of a filter", without_listeners: false, perform: attributes },
    Scenario { name: "programs that are refused", without_listeners: false, perform: refused },
];

const LDI: u32 = BPF_LD | BPF_IMM;
const LDXI: u32 = BPF_LDX | BPF_IMM;
const LDB: u32 = BPF_LD | BPF_B | BPF_ABS;
const LDH: u32 = BPF_LD | BPF_H | BPF_ABS;
const LDW: u32 = BPF_LD | BPF_ABS;
const RETA: Instruction = op(BPF_RET | BPF_A, 0);
/// `SKF_AD_OFF`, `SKF_NET_OFF`, `SKF_LL_OFF`.
const AD: u32 = 0xffff_f000;
const NET: u32 = 0xfff0_0000;
const LL: u32 = 0xffe0_0000;

/// Notes the length to which each program truncates an event.
fn leaves(run: &mut ScenarioRun<'_>, cases: &[(&str, &[Instruction])]) {
    let socket = guarded(run);
    for (label, program) in cases {
        let attached = text(run.kernel().attach(socket, program));
        run.rename(1);
        let left = run.received_lengths(socket);
        run.note(*label, format!("{attached}: {left}"));
    }
    run.witness();
}

/// Returns a program that computes with 50 and an operand, and truncates to the result.
fn of_50(op_of: u32, operand: u32) -> [Instruction; 4] {
    [op(LDI, 50), op(LDXI, operand), op(BPF_ALU | op_of | BPF_X, 0), RETA]
}

fn computed(run: &mut ScenarioRun<'_>) {
    let ops = [
        ("+", BPF_ADD),
        ("-", BPF_SUB),
        ("*", BPF_MUL),
        ("/", BPF_DIV),
        ("|", BPF_OR),
        ("&", BPF_AND),
        ("<<", BPF_LSH),
        (">>", BPF_RSH),
        ("%", BPF_MOD),
        ("^", BPF_XOR),
    ];
    let with_x: Vec<_> = ops
        .iter()
        .flat_map(|(name, op)| {
            [0, 1, 7, 33, 49, u32::MAX - 2].map(|x| (format!("50 {name} {x}"), of_50(*op, x)))
        })
        .collect();
    let with_x: Vec<_> = with_x.iter().map(|(label, program)| (label.as_str(), &program[..])).collect();
    leaves(run, &with_x);
    let k = |code, k| [op(LDI, 50), op(BPF_ALU | code, k), RETA];
    let branch = |test, k| [op(LDI, 50), jump(BPF_JMP | test, k, 0, 1), op(BPF_RET, 7), op(BPF_RET, 5)];
    leaves(
        run,
        &[
            ("50 + 7", &k(BPF_ADD, 7)),
            ("50 << 31 >> 31", &[op(LDI, 3), op(BPF_ALU | BPF_LSH, 31), op(BPF_ALU | BPF_RSH, 31), RETA]),
            ("-(-10)", &[op(LDI, -10_i32 as u32), op(BPF_ALU | BPF_NEG, 0), RETA]),
            ("50 == 50", &branch(BPF_JEQ, 50)),
            ("50 == 51", &branch(BPF_JEQ, 51)),
            ("50 > 50", &branch(BPF_JGT, 50)),
            ("50 > -1", &branch(BPF_JGT, u32::MAX)),
            ("50 >= 50", &branch(BPF_JGE, 50)),
            ("50 & 2", &branch(BPF_JSET, 2)),
            ("50 & 4", &branch(BPF_JSET, 4)),
            (
                "50 == X",
                &[op(LDXI, 50), op(LDI, 50), jump(BPF_JMP | BPF_JEQ | BPF_X, 0, 0, 1), op(6, 7), op(6, 5)],
            ),
            ("a jump", &[op(BPF_JMP | BPF_JA, 1), op(BPF_RET, 7), op(BPF_RET, 5)]),
            ("A at first", &[RETA]),
            ("X at first", &[op(BPF_MISC | BPF_TXA, 0), RETA]),
            (
                "to X and back",
                &[op(LDI, 9), op(BPF_MISC | BPF_TAX, 0), op(LDI, 0), op(BPF_MISC | BPF_TXA, 0), RETA],
            ),
            ("memory", &[op(LDI, 9), op(BPF_ST, 15), op(LDI, 0), op(BPF_LD | BPF_MEM, 15), RETA]),
            (
                "memory of X",
                &[op(LDXI, 9), op(BPF_STX, 0), op(BPF_LDX | BPF_MEM, 0), op(BPF_MISC | BPF_TXA, 0), RETA],
            ),
        ],
    );
}

fn read(run: &mut ScenarioRun<'_>) {
    let at = |code, k| [op(LDI, 11), op(code, k), op(BPF_RET, 9)];
    let from = |x, k| [op(LDXI, x), op(BPF_LD | BPF_B | BPF_IND, k), op(BPF_RET, 9)];
    let cases: Vec<_> = [
        (LDW, 0),
        (LDW, 72),
        (LDW, 73),
        (LDH, 74),
        (LDH, 75),
        (LDB, 75),
        (LDB, 76),
        (LDB, i32::MAX as u32),
        (LDB, 1 << 31),
        (LDB, LL),
        (LDB, LL + 14),
        (LDB, LL - 1),
        (LDB, NET),
        (LDW, NET + 72),
        (LDH, NET + 75),
        (LDB, NET + 76),
        (LDB, AD - 1),
        (BPF_LDX | BPF_B | BPF_MSH, 75),
        (BPF_LDX | BPF_B | BPF_MSH, 76),
        (BPF_LDX | BPF_B | BPF_MSH, NET),
        (BPF_LDX | BPF_B | BPF_MSH, AD),
    ]
    .iter()
    .map(|&(code, k)| (format!("code {code:#x} at {k:#x}"), at(code, k)))
    .chain(
        [
            (70, 5),
            (70, 6),
            (4, -4_i32 as u32),
            (4, -5_i32 as u32),
            (-4_i32 as u32, 8),
            (i32::MAX as u32, i32::MAX as u32),
            (0, NET),
            (NET, 75),
            (NET, 76),
            (0, AD + 36),
            (0, AD + 64),
        ]
        .iter()
        .map(|&(x, k)| (format!("from {x:#x} at {k:#x}"), from(x, k))),
    )
    .collect();
    let cases: Vec<_> = cases.iter().map(|(label, program)| (label.as_str(), &program[..])).collect();
    leaves(run, &cases);
    // The message's length, in native byte order.
    let len = 76_u32.to_be();
    let equal = |code, k, value| [op(code, k), jump(BPF_JMP | BPF_JEQ, value, 0, 1), op(6, 7), op(6, 5)];
    leaves(
        run,
        &[
            ("a word is big-endian", &equal(LDW, 0, len)),
            ("a half", &equal(LDH, 0, len >> 16)),
            ("a byte", &equal(LDB, 0, len >> 24)),
            ("of the network header", &equal(LDW, NET, len)),
            ("length", &[op(BPF_LD | BPF_LEN, 0), RETA]),
            ("length in X", &[op(BPF_LDX | BPF_LEN, 0), op(BPF_MISC | BPF_TXA, 0), RETA]),
            ("a header's length", &[op(BPF_LDX | BPF_B | BPF_MSH, 0), op(BPF_MISC | BPF_TXA, 0), RETA]),
            ("a header's length leaves A", &[op(LDI, 11), op(BPF_LDX | BPF_B | BPF_MSH, 0), RETA]),
        ],
    );
}

fn known(run: &mut ScenarioRun<'_>) {
    let cpu = run.kernel().cpu_number(0);
    let cases: Vec<_> = (0..=64)
        .step_by(2)
        .map(|label| {
            let load = [LDW, LDH, LDB][label as usize / 4 % 3];
            let add = if label == 36 { 20_u32.wrapping_sub(cpu) } else { 20 };
            // A random value can only be compared by its bounds.
            let add = if label == 56 { op(BPF_ALU | BPF_AND, 0) } else { op(BPF_ALU | BPF_ADD, add) };
            let program =
                [op(LDI, 11), op(LDXI, 3), op(load, AD + label), add, op(BPF_ALU | BPF_OR, 32), RETA];
            (format!("SKF_AD_OFF + {label}"), program)
        })
        .collect();
    let cases: Vec<_> = cases.iter().map(|(label, program)| (label.as_str(), &program[..])).collect();
    leaves(run, &cases);
}

/// An attribute's header: length and type.
fn header(len: u16, kind: u16) -> [u8; 4] {
    [len.to_ne_bytes(), kind.to_ne_bytes()].concat().try_into().expect("four bytes")
}

fn attributes(run: &mut ScenarioRun<'_>) {
    let socket = guarded(run);
    let sender = run.sender();
    let port = run.kernel().name(socket).0;
    let inner = [&header(5, 9)[..], &[1; 4], &header(4, 0x8003), &header(9, 4), &[0; 4]].concat();
    let message = [&header(8, 1)[..], &[7; 4], &header(4 + inner.len() as u16, 0xc002), &inner].concat();
    for label in [12, 16] {
        for a in [0, 4, 8, 12, 20, 28, 29, 32, 64, u32::MAX] {
            for x in [0, 1, 2, 3, 4, 9, 0xc002] {
                let program = [op(LDI, a), op(LDXI, x), op(LDW, AD + label), op(BPF_ALU | BPF_ADD, 1), RETA];
                run.kernel().attach(socket, &program).expect("a filter");
                let sent = run.send_bytes(sender, &message, port, 0);
                let left = run.received_lengths(socket);
                run.note(format!("{label}: type {x:#x} from {a:#x}"), format!("{sent}: {left}"));
            }
        }
    }
    let program = [op(LDXI, 1), op(LDW, AD + 12), op(BPF_ALU | BPF_ADD, 1), RETA];
    run.kernel().attach(socket, &program).expect("a filter");
    for len in 1..9 {
        let sent = run.send_bytes(sender, &message[..len], port, 0);
        run.note(format!("in {len} B"), sent);
    }
}

fn refused(run: &mut ScenarioRun<'_>) {
    const RET: Instruction = op(BPF_RET, 0);
    const ST: Instruction = op(BPF_ST, 0);
    const M: Instruction = op(BPF_LD | BPF_MEM, 0);
    const IF: Instruction = jump(BPF_JMP | BPF_JEQ, 0, 0, 1);
    let socket = run.socket();
    let long = [vec![op(LDI, 0); 4096], vec![RET]].concat();
    let cases: [(&str, &[Instruction]); 31] = [
        ("nothing", &[]),
        ("4096 instructions", &long[1..]),
        ("4097 instructions", &long),
        ("no return", &[op(LDI, 0)]),
        ("a jump at the end", &[RET, op(BPF_JMP | BPF_JA, 0)]),
        ("what the kernel returns at, at the end", &[op(LDW, AD + 8)]),
        ("division by 0", &[op(BPF_ALU | BPF_DIV, 0), RET]),
        ("rest by 0", &[op(BPF_ALU | BPF_MOD, 0), RET]),
        ("division by X", &[op(BPF_ALU | BPF_DIV | BPF_X, 0), RET]),
        ("shift by 32", &[op(BPF_ALU | BPF_LSH, 32), RET]),
        ("shift by 32 to the right", &[op(BPF_ALU | BPF_RSH, 32), RET]),
        ("shift by 31", &[op(BPF_ALU | BPF_RSH, 31), RET]),
        ("cell 16", &[op(BPF_ST, 16), RET]),
        ("cell 16 of X", &[op(BPF_STX, 16), RET]),
        ("cell 16 read", &[op(BPF_LD | BPF_MEM, 16), RET]),
        ("a cell not written", &[M, RET]),
        ("a cell written", &[ST, M, RET]),
        ("a cell written on one way", &[IF, ST, M, RET]),
        ("a cell written on both", &[jump(BPF_JMP | BPF_JEQ, 0, 0, 2), ST, op(5, 1), ST, M, RET]),
        ("a cell not written, in unreachable code", &[RET, M, RET]),
        ("a cell not written, after a jump", &[op(5, 1), M, RET]),
        ("a cell written, jumped over", &[op(5, 1), ST, M, RET]),
        ("X from a cell not written", &[op(BPF_LDX | BPF_MEM, 0), RET]),
        ("a jump to the end", &[op(5, 0), RET]),
        ("a jump out", &[op(5, 1), RET]),
        ("a jump far out", &[op(5, u32::MAX), RET]),
        ("a branch out, if so", &[jump(BPF_JMP | BPF_JEQ, 0, 1, 0), RET]),
        ("a branch out, if not", &[IF, RET]),
        ("an offset that means nothing", &[op(LDW, u32::MAX), RET]),
        ("the same from X", &[op(BPF_LD | BPF_IND, u32::MAX), RET]),
        ("return X", &[op(BPF_RET | BPF_X, 0)]),
    ];
    for (label, program) in cases {
        let attached = text(run.kernel().attach(socket, program));
        run.note(label, attached);
    }
    // Notes which codes of one byte, and of two, are accepted.
    let accepted = |codes: &mut dyn Iterator<Item = u32>, run: &mut ScenarioRun<'_>| {
        let mut accepted = Vec::new();
        for code in codes {
            if run.kernel().attach(socket, &[ST, op(code, 1), op(BPF_ST, 1), RET]).is_ok() {
                accepted.push(format!("{code:x}"));
            }
        }
        accepted.join(" ")
    };
    let low = accepted(&mut (0..256), run);
    run.note("codes that are accepted", low);
    let high = accepted(&mut (1..256).map(|code| code << 8), run);
    run.note("codes of two bytes", high);
}
