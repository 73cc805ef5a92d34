//! Fuzzes the parser of fault scripts with any text: it must not panic, an error names a line of
//! the text, and each rule, written on one line, is parsed as the same rule. A script that is valid
//! runs on a kernel, whose counts must be consistent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pmon_fake::{FaultScript, Kernel, RecvFlags};

fuzz_target!(|text: &str| {
    let script = match text.parse::<FaultScript>() {
        Ok(script) => script,
        Err(error) => {
            let lines = text.matches('\n').count() + 1;
            assert!(error.line().is_none_or(|line| (1..=lines).contains(&line)));
            assert!(!error.to_string().contains('\n'));
            return;
        }
    };
    for rule in script.rules() {
        let same: FaultScript = format!("fault = [{{ {rule} }}]").parse().unwrap();
        assert_eq!(same.rules(), std::slice::from_ref(rule));
    }
    // Bursts of a million events take too long.
    if text.contains("burst") {
        return;
    }
    let rules = script.rules().len();
    let mut kernel = Kernel::new(2);
    let mut socket = kernel.socket();
    socket.listen().unwrap();
    kernel.inject(script, 0);
    let task = kernel.add_process("fuzz");
    for _ in 0..50 {
        let child = kernel.fork(task);
        kernel.exec(child, "/bin/true", &["true", "-v"]);
        kernel.exit(child, 0);
        let _ = socket.recv(&mut [0; 128], RecvFlags::empty());
    }
    let counts = kernel.fault_counts();
    assert_eq!(counts.len(), rules);
    assert!(counts.iter().all(|count| count.effective <= count.fired && count.fired <= 150));
});
