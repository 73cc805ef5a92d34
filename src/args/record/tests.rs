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
    assert!(parse_redact("(").is_err() && parse_redact("").is_err());
    assert_eq!(parse_ring("2G"), Ok(2 << 30));
    for large in ["2147483649", "3G", "64G", "18446744073709551615"] {
        assert!(parse_ring(large).is_err(), "{large}");
    }
}
