use clap::Parser;

use super::*;
use crate::args::{Cli, Command};

#[test]
fn tree_takes_a_process_or_the_command() {
    let tree = |args: &[&str]| {
        let cli = Cli::try_parse_from([&["pmon", "record"], args].concat()).expect("parses");
        let Some(Command::Record(args)) = cli.command else { panic!("record") };
        (args.tree, args.command.len())
    };
    assert_eq!(tree(&["--tree", "4711"]), (Some(4711), 0));
    assert_eq!(tree(&["--tree", "--", "make", "-j8"]), (Some(0), 2));
    assert_eq!(tree(&[]), (None, 0));
}

#[test]
fn values_out_of_range_are_refused() {
    assert_eq!(parse_args_max("128K"), Ok(128 << 10));
    assert!(parse_args_max("0").is_err() && parse_args_max("129K").is_err());
    assert!(parse_latency("500us").is_err() && parse_latency("2s").is_err());
    assert_eq!(parse_latency("5ms"), Ok(Duration::from_millis(5)));
    let least = Err("must be at least 10ms, or `off`".into());
    assert_eq!(["0s", "1ms", "9.999999ms"].map(parse_heartbeat), [least.clone(), least.clone(), least]);
    assert_eq!(parse_heartbeat("10ms"), Ok(Duration::from_millis(10)));
    assert_eq!(parse_heartbeat("off"), Ok(Duration::ZERO));
    assert!(parse_buffer("0").is_err() && parse_socket_buffer("0").is_err() && parse_ring("0").is_err());
    assert!(parse_socket_buffer("2G").is_err() && parse_socket_buffer("2147483646").is_ok());
    for wrong in ["", "root", "-1", "4294967295"] {
        assert!(parse_uid(wrong).unwrap_err().contains("is no user id"), "{wrong}");
    }
    for wrong in ["", "0", "-1", "x", "2147483648"] {
        assert!(parse_tree(wrong).unwrap_err().contains("is no process id"), "{wrong}");
    }
    assert!(parse_recorded_kind("ack").is_err() && parse_recorded_kind("").is_err());
    assert_eq!(parse_recorded_kind("exec"), Ok(EventKind::Exec));
    assert!(parse_redact("(").is_err() && parse_redact("").is_err());
    assert_eq!(parse_ring("2G"), Ok(2 << 30));
    for large in ["2147483649", "3G", "64G", "18446744073709551615"] {
        assert!(parse_ring(large).is_err(), "{large}");
    }
}
