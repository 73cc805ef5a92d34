//! Every way of receiving events, with a client for each. The client prints all events and ends at
//! the end of the replay.

use std::fs;
use std::process::Command;
use std::time::Instant;

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

use crate::harness::{ProgramReplay, programs, skip};
use crate::test_capture::TestCapture;

/// A client, and the lines that it prints for the lines of all events.
pub(crate) struct ClientCase {
    pub(crate) client: &'static str,
    pub(crate) args: &'static [&'static str],
    pub(crate) expected: fn(&[String]) -> Vec<String>,
}

/// Returns the acknowledgement and all events.
fn all(lines: &[String]) -> Vec<String> {
    [&["ack".to_owned()], lines].concat()
}

/// Returns the events of one kind, without the acknowledgement.
fn only(kind: &str, lines: &[String]) -> Vec<String> {
    lines.iter().filter(|line| line.starts_with(kind)).cloned().collect()
}

/// Returns the acknowledgement and all events, each on two sockets.
fn twice(lines: &[String]) -> Vec<String> {
    all(lines).iter().flat_map(|line| [format!("a {line}"), format!("b {line}")]).collect()
}

#[track_caller]
fn check(case: &ClientCase) {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let ran = replay.client(case.client, case.args).expect(0);
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), (case.expected)(&capture.lines()), "{}", ran.err);
}

/// Defines a test for each case, and the table of all cases.
macro_rules! client_cases {
    ($($name:ident: $client:literal $($arg:literal)* => $expected:expr;)*) => {
        $(#[test]
        fn $name() {
            check(&ClientCase { client: $client, args: &[$($arg),*], expected: $expected });
        })*

        pub(crate) const CLIENT_CASES: &[ClientCase] =
            &[$(ClientCase { client: $client, args: &[$($arg),*], expected: $expected }),*];
    };
}

client_cases! {
    recv: "receive" "recv" => all;
    recv_in_a_static_program: "static" "recv" => all;
    read: "receive" "read" => all;
    readv: "receive" "readv" => all;
    preadv2_without_an_offset: "receive" "preadv2" => all;
    recvfrom_returns_the_sender: "receive" "recvfrom" => all;
    recvmsg_returns_the_sender_and_no_control_message: "receive" "recvmsg" => all;
    recvmsg_reports_truncation: "receive" "truncated" => all;
    recvmmsg_with_waitforone: "receive" "recvmmsg" => all;
    recvmmsg_waits_for_eight: "receive" "recvmmsg-eight" => all;
    a_peek_does_not_dequeue: "receive" "peek" => all;
    recv_with_trunc_returns_the_length: "receive" "trunc" => all;
    select: "wait" "select" => all;
    pselect_with_a_signal_mask: "wait" "pselect" => all;
    poll: "wait" "poll" => all;
    ppoll_with_a_signal_mask: "wait" "ppoll" => all;
    epoll: "wait" "epoll" => all;
    epoll_with_a_signalfd: "wait" "signalfd" => all;
    edge_triggered_epoll: "wait" "edge" => all;
    nonblocking_by_flag: "wait" "flag" => all;
    nonblocking_by_fcntl: "wait" "fcntl" => all;
    nonblocking_by_ioctl: "wait" "ioctl" => all;
    dup: "duplicate" "dup" => all;
    dup2: "duplicate" "dup2" => all;
    dup3: "duplicate" "dup3" => all;
    dup2_of_a_socket_with_queued_events: "duplicate" "twice" => all;
    fcntl_dupfd_cloexec: "duplicate" "dupfd" => all;
    a_child_reads: "duplicate" "fork" => all;
    a_thread_reads: "duplicate" "thread" => all;
    edge_triggered_epoll_in_another_thread: "threads" "edge" => all;
    oneshot_epoll_in_another_thread: "threads" "oneshot" => all;
    passed_to_a_child: "pass_fd" => all;
    passed_to_a_child_that_subscribes: "pass_fd" "unsubscribed" => all;
    sigio: "signals" "sigsuspend" => all;
    sigio_with_an_owner_by_ioctl: "signals" "fiosetown" => all;
    a_realtime_signal_with_sigwaitinfo: "signals" "sigwaitinfo" => all;
    limited_to_256_files: "daemon_setup" "limit-256" => all;
    limited_to_64_files: "daemon_setup" "limit-64" => all;
    many_open_files: "daemon_setup" "many-files" => all;
    poll_reports_no_error: "poll_error" "poll" => all;
    epoll_reports_no_error: "poll_error" "epoll" => all;
    inherited_over_exec: "duplicate" "exec" => all;
    subscribed_by_send: "send" "send" => all;
    subscribed_by_sendto: "send" "sendto" => all;
    subscribed_by_sendmsg_in_three_parts: "send" "sendmsg" => all;
    subscribed_by_write: "send" "write" => all;
    subscribed_by_writev: "send" "writev" => all;
    an_event_mask_of_exits_is_not_acknowledged: "send" "mask" => |lines| only("exit ", lines);
    a_group_joined_after_bind: "memberships" "add-membership" => all;
    two_sockets_receive_all: "memberships" "two" => twice;
    closed_and_reopened: "memberships" "reopen" => all;
    a_classic_filter: "filter" => |lines| only("exec ", lines);
    no_gap_in_sequence_numbers: "overrun" "enobufs" => all;
}

/// The clients and [`TestCapture::lines`] format events by different code. Checks that they agree,
/// with datagrams from an ordinary socket.
#[test]
fn clients_and_the_test_capture_format_events_alike() {
    let Some(programs) = programs() else { return };
    let capture = TestCapture::new();
    let (writer, reader) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    for datagram in capture.datagrams() {
        send(&writer, &datagram, SendFlags::empty()).unwrap();
    }
    drop(writer);
    let printed =
        Command::new(programs.path("duplicate")).args(["inherited", "0"]).stdin(reader).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&printed.stdout).lines().collect::<Vec<_>>(), capture.lines());
}

/// The output of the client `options` run by root.
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
fn addresses_and_options_of_a_socket() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    assert_eq!(replay.client("options", &[]).expect(0).out, OPTIONS);
}

/// The output of the client `control_messages`: the control messages by buffer size, first with one
/// message, then with two.
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
fn control_messages_are_truncated_as_by_the_kernel() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    assert_eq!(replay.client("control_messages", &[]).expect(0).out, CONTROL);
}

#[test]
fn repeated_runs_give_equal_output() {
    let capture = TestCapture::new();
    for (client, args) in
        [("receive", &["recv"][..]), ("wait", &["edge"]), ("duplicate", &["thread"]), ("proc_of_execs", &[])]
    {
        let [Some(first), Some(second)] = [ProgramReplay::of(&capture), ProgramReplay::of(&capture)] else {
            return;
        };
        assert_eq!(first.client(client, args).expect(0).out, second.client(client, args).expect(0).out);
    }
}

#[test]
fn a_timed_replay_delivers_the_same_events() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture).map(|replay| replay.with(&["--speed", "1x"])) else {
        return;
    };
    let began = Instant::now();
    let ran = replay.client("receive", &["recv"]).expect(0);
    assert_eq!(ran.out.lines().skip(1).collect::<Vec<_>>(), capture.lines());
    assert!(began.elapsed() >= capture.duration(), "{:?}", began.elapsed());
}

/// Checks a client in a scripting language.
fn check_script(interpreter: &str, script: &str, args: &[&str]) {
    if !fs::exists(interpreter).unwrap() {
        return skip(&format!("{interpreter} is not installed"));
    }
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let ran = replay.script(interpreter, script, args).expect(0);
    assert_eq!(ran.out.lines().skip(1).collect::<Vec<_>>(), capture.lines(), "{ran:#?}");
}

#[test]
fn python_with_each_way_of_waiting() {
    for mode in ["recv", "timeout", "selectors", "asyncio"] {
        check_script("/usr/bin/python3", "client.py", &[mode]);
    }
}

#[test]
fn perl() {
    check_script("/usr/bin/perl", "client.pl", &[]);
}
