//! Reads the kernel's build options from its symbol table.

use std::fs::File;
use std::io::{BufRead, BufReader};

/// Whether this kernel was built with `CONFIG_PROC_EVENTS`, by its symbols (`/proc/kallsyms`);
/// `None` if it hides them.
pub(crate) fn has_process_events() -> Option<bool> {
    has_symbol(BufReader::new(File::open("/proc/kallsyms").ok()?), b"proc_fork_connector")
}

/// Whether a list of symbols contains `name`; `None` if it is empty or cannot be read.
fn has_symbol(mut symbols: impl BufRead, name: &[u8]) -> Option<bool> {
    let (mut line, mut lines) = (Vec::new(), 0);
    loop {
        line.clear();
        if symbols.read_until(b'\n', &mut line).ok()? == 0 {
            return (lines > 0).then_some(false);
        }
        lines += 1;
        if line.split(u8::is_ascii_whitespace).nth(2) == Some(name) {
            return Some(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_is_found_by_its_whole_name() {
        let symbols = b"0000000000000000 t other\n0000000000000000 T proc_fork_connector\n";
        assert_eq!(has_symbol(&symbols[..], b"proc_fork_connector"), Some(true));
        assert_eq!(has_symbol(&symbols[..], b"fork_connector"), Some(false));
    }

    #[test]
    fn an_empty_list_of_symbols_decides_nothing() {
        assert_eq!(has_symbol(&b""[..], b"proc_fork_connector"), None);
    }
}
