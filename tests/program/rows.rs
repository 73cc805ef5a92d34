//! Each way to receive events, a client each: what it prints under replay is what it is told to print, and so it ends.

use std::fs;
use std::process::Command;
use std::time::Instant;

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

use crate::day::Day;
use crate::stage::{Replay, skip, stage};

/// A client, and what it prints of these events.
pub(crate) struct Row {
    pub(crate) client: &'static str,
    pub(crate) args: &'static [&'static str],
    pub(crate) prints: fn(&[String]) -> Vec<String>,
}

/// An acknowledgement and everything.
fn all(lines: &[String]) -> Vec<String> {
    [&["ack".to_owned()], lines].concat()
}

/// What is of one kind, and no acknowledgement.
fn of(kind: &str, lines: &[String]) -> Vec<String> {
    lines.iter().filter(|line| line.starts_with(kind)).cloned().collect()
}

/// Everything twice, on two sockets.
fn twice(lines: &[String]) -> Vec<String> {
    all(lines).iter().flat_map(|line| [format!("a {line}"), format!("b {line}")]).collect()
}

#[track_caller]
fn check(row: &Row) {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let ran = replay.client(row.client, row.args).expect(0);
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), (row.prints)(&day.lines()), "{}", ran.err);
}

/// A test for each row, and the table of all.
macro_rules! rows {
    ($($name:ident: $client:literal $($arg:literal)* => $prints:expr;)*) => {
        $(#[test]
        fn $name() {
            check(&Row { client: $client, args: &[$($arg),*], prints: $prints });
        })*

        /// All of them.
        pub(crate) const ROWS: &[Row] = &[$(Row { client: $client, args: &[$($arg),*], prints: $prints }),*];
    };
}

rows! {
    recv: "receive" "recv" => all;
    of_a_static_program: "static" "recv" => all;
    read: "receive" "read" => all;
    readv: "receive" "readv" => all;
    preadv2_at_no_place: "receive" "preadv2" => all;
    recvfrom_tells_the_sender: "receive" "recvfrom" => all;
    recvmsg_tells_the_sender_and_nothing_else: "receive" "recvmsg" => all;
    recvmsg_tells_what_is_cut: "receive" "short" => all;
    recvmmsg_takes_what_there_is: "receive" "recvmmsg" => all;
    recvmmsg_waits_for_eight: "receive" "eight" => all;
    a_peek_takes_nothing: "receive" "peek" => all;
    the_length_of_what_is_cut: "receive" "length" => all;
    select: "wait" "select" => all;
    pselect_lets_signals_in: "wait" "pselect" => all;
    poll: "wait" "poll" => all;
    ppoll_lets_signals_in: "wait" "ppoll" => all;
    epoll: "wait" "epoll" => all;
    epoll_beside_a_signalfd: "wait" "signalfd" => all;
    epoll_of_edges: "wait" "edge" => all;
    sleep_and_look_nonblocking_by_flag: "wait" "flag" => all;
    sleep_and_look_nonblocking_by_fcntl: "wait" "fcntl" => all;
    sleep_and_look_nonblocking_by_ioctl: "wait" "ioctl" => all;
    dup: "copy" "dup" => all;
    dup2: "copy" "dup2" => all;
    dup3: "copy" "dup3" => all;
    fcntl_dupfd_cloexec: "copy" "dupfd" => all;
    a_child_reads: "copy" "fork" => all;
    a_thread_reads: "copy" "thread" => all;
    one_thread_waits_for_edges_and_another_reads: "threads" "edge" => all;
    one_thread_waits_once_and_another_reads: "threads" "oneshot" => all;
    passed_to_a_child: "pass" => all;
    told_by_sigio: "signals" "pause" => all;
    told_by_sigio_with_an_owner_by_ioctl: "signals" "owner" => all;
    told_by_a_signal_that_is_waited_for: "signals" "info" => all;
    few_files_are_allowed: "become" "limit" => all;
    fewer_files_are_allowed: "become" "fewer" => all;
    many_files_are_open: "become" "many" => all;
    poll_finds_no_error: "failing" "poll" => all;
    epoll_finds_no_error: "failing" "epoll" => all;
    the_next_program_reads: "copy" "exec" => all;
    subscribed_by_send: "send" "send" => all;
    subscribed_by_sendto: "send" "sendto" => all;
    subscribed_by_sendmsg_in_three_parts: "send" "sendmsg" => all;
    subscribed_by_write: "send" "write" => all;
    subscribed_by_writev: "send" "writev" => all;
    a_mask_leaves_exits_and_is_not_acknowledged: "send" "mask" => |lines| of("exit ", lines);
    a_group_joined_later: "join" "later" => all;
    two_sockets_hear_all: "join" "two" => twice;
    closed_and_opened_again: "join" "again" => all;
    a_classic_filter: "filter" => |lines| of("exec ", lines);
    nothing_is_missed: "overrun" "told" => all;
}

/// The clients' lines and those that are wanted are told by two codes: here of the same bytes, from a socket that is none of the kernel's.
#[test]
fn clients_print_what_is_in_a_datagram() {
    let Some(stage) = stage() else { return };
    let day = Day::new();
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    for datagram in day.datagrams() {
        send(&ours, &datagram, SendFlags::empty()).unwrap();
    }
    drop(ours);
    let printed = Command::new(stage.path("copy")).args(["inherited", "0"]).stdin(theirs).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&printed.stdout).lines().collect::<Vec<_>>(), day.lines());
}

/// What root's socket says of itself.
pub(crate) const OPTIONS: &str = "\
    name 12 family 16 pid 0 groups 0\n\
    peer 12 family 16 pid 0 groups 0\n\
    name 12 family 16 pid self groups 1\n\
    peer 12 family 16 pid 0 groups 0\n\
    flags 0x802 0\n\
    type 2\n\
    protocol 11\n\
    domain 16\n\
    error 0\n\
    set rcvbuf\n\
    rcvbuf 131072\n\
    set rcvbuf\n\
    rcvbuf 2304\n\
    set rcvbufforce\n\
    rcvbuf 16777216\n\
    set no_enobufs\n\
    no_enobufs 1\n\
    set pktinfo\n\
    set unknown ENOPROTOOPT\n\
    recv EAGAIN\n";

#[test]
fn what_a_socket_says_of_itself() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    assert_eq!(replay.client("options", &[]).expect(0).out, OPTIONS);
}

/// What comes beside a datagram, by the room for it: one control message, and two.
pub(crate) const CONTROL: &str = "\
    0: 0 cut\n\
    8: 0 cut\n\
    15: 0 cut\n\
    16: 16 cut, 16\n\
    18: 18 cut, 18\n\
    20: 20 whole, 20\n\
    22: 22 whole, 20\n\
    24: 24 whole, 20\n\
    64: 24 whole, 20\n\
    20: 20 cut, 20\n\
    24: 24 cut, 20\n\
    39: 24 cut, 20\n\
    40: 40 cut, 20, 16\n\
    50: 50 cut, 20, 26\n\
    52: 52 whole, 20, 28\n\
    56: 56 whole, 20, 28\n\
    64: 56 whole, 20, 28\n";

#[test]
fn what_comes_beside_a_datagram_is_cut_as_by_the_kernel() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    assert_eq!(replay.client("control", &[]).expect(0).out, CONTROL);
}

#[test]
fn twice_the_same_is_the_same() {
    let day = Day::new();
    for (client, args) in
        [("receive", &["recv"][..]), ("wait", &["edge"]), ("copy", &["thread"]), ("procfs", &[])]
    {
        let [Some(first), Some(second)] = [Replay::of(&day), Replay::of(&day)] else { return };
        assert_eq!(first.client(client, args).expect(0).out, second.client(client, args).expect(0).out);
    }
}

#[test]
fn at_its_own_pace_it_is_the_same() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day).map(|replay| replay.with(&["--speed", "1x"])) else { return };
    let began = Instant::now();
    let ran = replay.client("receive", &["recv"]).expect(0);
    assert_eq!(ran.out.lines().skip(1).collect::<Vec<_>>(), day.lines());
    assert!(began.elapsed() >= day.length(), "{:?}", began.elapsed());
}

/// What other languages make of a socket.
fn in_another_language(interpreter: &str, script: &str, args: &[&str]) {
    if !fs::exists(interpreter).unwrap() {
        return skip(&format!("there is no {interpreter}"));
    }
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let ran = replay.script(interpreter, script, args).expect(0);
    assert_eq!(ran.out.lines().skip(1).collect::<Vec<_>>(), day.lines(), "{ran:#?}");
}

#[test]
fn python_in_each_of_its_ways() {
    for mode in ["recv", "timeout", "selectors", "asyncio"] {
        in_another_language("/usr/bin/python3", "client.py", &[mode]);
    }
}

#[test]
fn perl() {
    in_another_language("/usr/bin/perl", "client.pl", &[]);
}
