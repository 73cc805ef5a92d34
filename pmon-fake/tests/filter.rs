//! Socket filters, without root. The `differential` tool of `pmon-testkit` compares them with the
//! kernel's.

use pmon_core::Cpu;
use pmon_core::batch::Batch;
use pmon_core::wire::{ByteOrder, Event, EventBody};
use pmon_fake::{Errno, Kernel, RecvFlags, SockFilter, Socket};
use proptest::prelude::*;

const GROUP: u32 = 1;
const LD_W_ABS: u16 = 0x20;
const LD_IMM: u16 = 0x00;
const LD_LEN: u16 = 0x80;
const LD_MEM: u16 = 0x60;
const ST: u16 = 0x02;
const JEQ: u16 = 0x15;
const RET: u16 = 0x06;
const RET_A: u16 = 0x16;
/// `SKF_AD_OFF`.
const AD: u32 = 0xffff_f000;
/// `SKF_AD_OFF + SKF_AD_CPU`.
const AD_CPU: u32 = AD + 36;
/// `SKF_AD_OFF + SKF_AD_RANDOM`.
const AD_RANDOM: u32 = AD + 56;

fn op(code: u16, k: u32) -> SockFilter {
    jump(code, k, 0, 0)
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> SockFilter {
    SockFilter { code, jt, jf, k }
}

/// A program that truncates each datagram to `bytes`; 0 rejects it.
fn truncate_to(bytes: u32) -> [SockFilter; 1] {
    [op(RET, bytes)]
}

/// Opens a subscribed socket and receives its acknowledgement.
fn listening(kernel: &mut Kernel) -> Socket {
    let mut socket = kernel.socket();
    socket.listen().unwrap();
    socket.recv(&mut [], RecvFlags::empty()).unwrap();
    socket
}

/// Receives all queued datagrams and returns their lengths.
fn lengths(socket: &mut Socket) -> Vec<usize> {
    let mut next = || socket.recv(&mut [0; 256], RecvFlags::empty()).map(|datagram| datagram.len);
    std::iter::from_fn(|| next().ok()).collect()
}

#[test]
fn a_filter_selects_events_by_kind() {
    let mut kernel = Kernel::new(1);
    let mut socket = listening(&mut kernel);
    let what = u32::from_be_bytes(0x8000_0000_u32.to_ne_bytes());
    let program = [op(LD_W_ABS, 36), jump(JEQ, what, 0, 1), op(RET, u32::MAX), op(RET, 0)];
    socket.attach_filter(&program).unwrap();
    assert_eq!(socket.filter().as_deref(), Some(&program[..]));

    let shell = kernel.add_process("sh");
    let child = kernel.fork(shell);
    kernel.exit(child, 3);
    kernel.rename(shell, "other");

    let mut bytes = [0; 128];
    let len = socket.recv(&mut bytes, RecvFlags::empty()).unwrap().len;
    let event = Event::decode(&bytes[..len], ByteOrder::NATIVE).unwrap();
    assert!(matches!(event.body, EventBody::Exit { task, .. } if task == child), "{event:?}");
    assert_eq!(socket.recv(&mut bytes, RecvFlags::empty()), Err(Errno::AGAIN));
    assert_eq!(socket.memory().drops, 0);
}

#[test]
fn a_truncated_datagram_is_charged_as_before_without_msg_trunc() {
    let mut kernel = Kernel::new(1);
    let mut socket = listening(&mut kernel);
    let task = kernel.add_process("test");
    socket.attach_filter(&truncate_to(20)).unwrap();
    kernel.rename(task, "other");
    assert_eq!(socket.memory().rmem_alloc, 832);
    let datagram = socket.recv(&mut [0; 256], RecvFlags::TRUNC).unwrap();
    assert_eq!((datagram.len, datagram.truncated), (20, false));
    assert_eq!(socket.memory().rmem_alloc, 0);
}

#[test]
fn a_filter_truncates_for_later_sockets_until_one_has_queued_the_event() {
    let mut kernel = Kernel::new(1);
    let task = kernel.add_process("test");
    let [mut first, mut second, mut last] = std::array::from_fn(|_| listening(&mut kernel));
    let received = [&mut first, &mut second, &mut last].map(lengths);
    assert_eq!(received, [vec![76; 2], vec![76], vec![]], "acknowledgements");

    last.attach_filter(&truncate_to(20)).unwrap();
    kernel.rename(task, "all");
    assert_eq!([&mut first, &mut second, &mut last].map(lengths), [[20], [20], [20]]);

    last.detach_filter().unwrap();
    second.attach_filter(&truncate_to(20)).unwrap();
    kernel.rename(task, "one");
    assert_eq!([&mut first, &mut second, &mut last].map(lengths), [[76], [20], [76]]);
}

#[test]
fn a_filter_can_load_the_cpu_of_the_event() {
    let mut kernel = Kernel::new(4);
    let task = kernel.add_process("test");
    let mut socket = listening(&mut kernel);
    socket.attach_filter(&[op(LD_W_ABS, AD_CPU), op(0x04, 10), op(RET_A, 0)]).unwrap();
    for cpu in [3, 0, 2] {
        kernel.run_on(Cpu(cpu));
        kernel.rename(task, "test");
    }
    assert_eq!(lengths(&mut socket), [13, 10, 12]);
}

#[test]
fn random_numbers_of_filters_are_reproducible() {
    let run = || {
        let mut kernel = Kernel::new(1);
        let task = kernel.add_process("test");
        let mut socket = listening(&mut kernel);
        let program = [op(LD_W_ABS, AD_RANDOM), op(0x54, 63), op(0x04, 1), op(RET_A, 0)];
        socket.attach_filter(&program).unwrap();
        (0..20).for_each(|_| kernel.rename(task, "test"));
        lengths(&mut socket)
    };
    let lengths = run();
    assert_eq!(lengths, run());
    assert!(lengths.iter().any(|len| *len != lengths[0]), "{lengths:?}");
}

#[test]
fn an_external_event_for_the_only_socket_passes_its_filter() {
    let mut kernel = Kernel::new(1);
    let mut socket = listening(&mut kernel);
    let body = EventBody::Sid { task: kernel.add_process("test") };
    let event = Event { time: kernel.now(), seq: kernel.next_seq(Cpu(0)), cpu: Cpu(0), body };
    let datagram = event.encode(ByteOrder::NATIVE).unwrap();
    let mut batch = Batch::with_capacity(8);
    for (program, kept) in [(truncate_to(0), vec![]), (truncate_to(9), vec![9])] {
        socket.attach_filter(&program).unwrap();
        assert!(!kernel.feed().emit_into(&datagram, &mut batch));
        assert_eq!(lengths(&mut socket), kept);
    }
    socket.detach_filter().unwrap();
    assert!(kernel.feed().emit_into(&datagram, &mut batch));
    assert_eq!(batch.len(), 1);
}

#[test]
fn send_returns_the_truncated_length_but_does_not_report_a_rejection() {
    let kernel = Kernel::new(1);
    let (mut socket, mut sender) = (kernel.socket(), kernel.socket());
    socket.bind(77, 0).unwrap();
    for (kept, sent, queued) in [(0, 40, vec![]), (10, 10, vec![10]), (99, 40, vec![40])] {
        socket.attach_filter(&truncate_to(kept)).unwrap();
        assert_eq!(sender.send_to(&[0; 40], 77, 0), Ok(sent));
        assert_eq!(lengths(&mut socket), queued);
    }
}

#[test]
fn rejected_datagrams_are_no_drops() {
    let mut kernel = Kernel::new(1);
    let task = kernel.add_process("test");
    let mut socket = listening(&mut kernel);
    socket.set_rcvbuf(0);
    socket.attach_filter(&truncate_to(0)).unwrap();
    (0..1_000).for_each(|_| kernel.rename(task, "test"));
    assert_eq!((socket.memory().drops, socket.take_error()), (0, None));
    socket.attach_filter(&truncate_to(1)).unwrap();
    (0..10).for_each(|_| kernel.rename(task, "test"));
    assert_eq!((socket.memory().drops, socket.take_error()), (8, Some(Errno::NOBUFS)));
}

#[test]
fn a_locked_filter_cannot_be_changed() {
    let mut kernel = Kernel::new(1);
    let task = kernel.add_process("test");
    let mut socket = listening(&mut kernel);
    assert_eq!(socket.detach_filter(), Err(Errno::NOENT));
    socket.attach_filter(&truncate_to(9)).unwrap();
    assert_eq!((socket.lock_filter(false), socket.is_filter_locked()), (Ok(()), false));
    socket.lock_filter(true).unwrap();
    assert_eq!(socket.attach_filter(&truncate_to(0)), Err(Errno::PERM));
    assert_eq!(socket.detach_filter(), Err(Errno::PERM));
    assert_eq!((socket.lock_filter(false), socket.is_filter_locked()), (Err(Errno::PERM), true));
    kernel.rename(task, "test");
    assert_eq!(lengths(&mut socket), [9]);
}

#[test]
fn an_invalid_program_is_refused_and_the_previous_one_stays() {
    let mut kernel = Kernel::new(1);
    let task = kernel.add_process("test");
    let mut socket = listening(&mut kernel);
    socket.attach_filter(&truncate_to(9)).unwrap();
    let invalid: &[&[SockFilter]] = &[
        &[],
        &[op(LD_IMM, 0)],
        &[op(LD_W_ABS, AD + 8)],
        &[op(0xff, 0), op(RET, 0)],
        &[jump(JEQ, 0, 1, 0), op(RET, 0)],
        &[op(0x05, u32::MAX), op(RET, 0)],
        &[op(0x34, 0), op(RET, 0)],
        &[op(ST, 16), op(RET, 0)],
        &[op(LD_MEM, 0), op(RET, 0)],
        &[jump(JEQ, 0, 1, 0), op(ST, 0), op(LD_MEM, 0), op(RET, 0)],
        &[op(LD_W_ABS, u32::MAX), op(RET, 0)],
        &[op(LD_LEN, 0); 4097],
    ];
    for program in invalid {
        assert_eq!(socket.attach_filter(program), Err(Errno::INVAL), "{program:?}");
    }
    kernel.rename(task, "test");
    assert_eq!(lengths(&mut socket), [9]);
}

/// A valid instruction, if cells 0 to 3 are written and five more instructions follow.
fn instruction() -> impl Strategy<Value = SockFilter> {
    let offset = prop_oneof![0..100_u32, 0xfff0_0000..0xfff0_0064_u32, 0..AD];
    let compute = [0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xa0].map(|op| op | 0x04);
    let loads = [0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0xb1];
    let plain = [0x00, 0x01, 0x80, 0x81, 0x07, 0x87, 0x84, 0x06, 0x16];
    let choose = |codes: &'static [u16]| prop::sample::select(codes);
    prop_oneof![
        (prop::sample::select(loads.to_vec()), offset).prop_map(|(code, k)| op(code, k)),
        (choose(&[0x20, 0x28, 0x30]), 0..16_u32).prop_map(|(code, what)| op(code, AD + what * 4)),
        (choose(&[0x02, 0x03, 0x60, 0x61]), 0..4_u32).prop_map(|(code, cell)| op(code, cell)),
        (prop::sample::select(compute.to_vec()), 1..32_u32).prop_map(|(code, k)| op(code, k)),
        prop::sample::select(compute.to_vec()).prop_map(|code| op(code | 0x08, 0)),
        (choose(&[0x15, 0x25, 0x35, 0x45, 0x1d, 0x2d, 0x3d, 0x4d]), any::<u32>(), 0..5_u8, 0..5_u8)
            .prop_map(|(code, k, jt, jf)| jump(code, k, jt, jf)),
        (0..5_u32).prop_map(|over| op(0x05, over)),
        (prop::sample::select(plain.to_vec()), prop_oneof![0..80_u32, any::<u32>()])
            .prop_map(|(code, k)| op(code, k)),
    ]
}

proptest! {
    #[test]
    fn a_valid_program_terminates(
        body in prop::collection::vec(instruction(), 0..60),
        datagram in prop::collection::vec(any::<u8>(), 1..120),
    ) {
        let kernel = Kernel::new(1);
        let (mut socket, mut sender) = (kernel.socket(), kernel.socket());
        socket.bind(77, GROUP).unwrap();
        let begin = (0..4).map(|cell| op(ST, cell));
        let program: Vec<_> = begin.chain(body).chain([op(RET_A, 0); 5]).collect();
        prop_assert_eq!(socket.attach_filter(&program), Ok(()));
        let sent = sender.send_to(&datagram, 77, 0).unwrap();
        let mut bytes = [0; 128];
        match socket.recv(&mut bytes, RecvFlags::empty()) {
            Ok(received) => {
                prop_assert_eq!(received.len, sent);
                prop_assert_eq!(&bytes[..sent], &datagram[..sent]);
            }
            Err(error) => prop_assert_eq!((error, sent), (Errno::AGAIN, datagram.len())),
        }
    }

    #[test]
    fn any_program_is_attached_or_refused(
        program in prop::collection::vec(
            (prop_oneof![0..256_u16, any::<u16>()], any::<u8>(), any::<u8>(), any::<u32>())
                .prop_map(|(code, jt, jf, k)| SockFilter { code, jt, jf, k }),
            0..20,
        ),
    ) {
        let mut kernel = Kernel::new(1);
        let task = kernel.add_process("test");
        let mut socket = listening(&mut kernel);
        match socket.attach_filter(&program) {
            Ok(()) => kernel.rename(task, "test"),
            Err(error) => prop_assert_eq!(error, Errno::INVAL),
        }
        lengths(&mut socket);
    }
}
