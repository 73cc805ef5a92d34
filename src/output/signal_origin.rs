//! Where the signal came from that killed a process, as text.

use pmon_analysis::WaitStatus;
use pmon_analysis::life::Life;
use pmon_analysis::signal_code::{SI_KERNEL, SI_USER, signal_code_name};
use pmon_core::capture::{FatalSignal, SignalOrigin};

use super::printable;

/// Describes how a process ended, and who sent the signal if one killed it.
pub(crate) fn ended(status: WaitStatus, life: &Life) -> String {
    let origin = life.signal.as_ref().map(|of| signal_origin(status, life.pid, &of.signal));
    status.to_string() + &origin.unwrap_or_default()
}

/// Returns what follows the wait status of process `pid`, such as ` from 812 oomd`; empty if the
/// origin is unknown, or if no signal killed the process.
pub(crate) fn signal_origin(status: WaitStatus, pid: u32, of: &FatalSignal) -> String {
    let WaitStatus::Killed { signal, .. } = status else { return String::new() };
    if status.is_oom_kill(Some(of)) == Some(true) {
        return " from the OOM killer".into();
    }
    match of.origin {
        SignalOrigin::Process { sender, .. } if sender.pid == pid => " from itself".into(),
        SignalOrigin::Process { sender, .. } => {
            format!(" from {} {}", sender.pid, printable(sender.comm.as_bytes()))
        }
        SignalOrigin::Kernel { code: SI_USER | SI_KERNEL } => " from the kernel".into(),
        SignalOrigin::Kernel { code } => match signal_code_name(signal, code) {
            Some(name) => format!(" from the kernel ({name})"),
            None => format!(" from the kernel (code {code})"),
        },
        SignalOrigin::Unknown => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use pmon_core::capture::SignalSender;
    use pmon_core::wire::Comm;

    use super::*;

    #[test]
    fn each_origin_is_named_in_a_few_words() {
        let by = |signal, oom_victim, origin| {
            signal_origin(WaitStatus::from_raw(signal), 7, &FatalSignal { oom_victim, origin })
        };
        let text = |oom_victim, origin| by(11, oom_victim, origin);
        let kernel = |code| text(Some(false), SignalOrigin::Kernel { code });
        let process = |pid, comm| {
            let sender = SignalSender { pid, comm: Comm(comm), ..SignalSender::default() };
            SignalOrigin::Process { code: 0, sender }
        };
        let hostile = *b"\x1b[31m\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(text(None, process(812, *b"oomd\0\0\0\0\0\0\0\0\0\0\0\0")), " from 812 oomd");
        assert_eq!(text(Some(true), process(812, hostile)), " from 812 \\x1b[31m");
        assert_eq!(text(None, process(7, hostile)), " from itself");
        assert_eq!(kernel(1), " from the kernel (SEGV_MAPERR)");
        assert_eq!(kernel(77), " from the kernel (code 77)");
        assert_eq!(kernel(0), " from the kernel");
        assert_eq!(kernel(128), " from the kernel");
        let by_kernel = SignalOrigin::Kernel { code: 128 };
        assert_eq!(by(9, Some(true), by_kernel), " from the OOM killer");
        assert_eq!(by(9, Some(true), SignalOrigin::Unknown), " from the OOM killer");
        assert_eq!(by(11, Some(true), by_kernel), " from the kernel");
        assert_eq!(text(Some(false), SignalOrigin::Unknown), "");
        let exited = WaitStatus::from_raw(3 << 8);
        let signal = FatalSignal { oom_victim: Some(true), origin: process(812, hostile) };
        assert_eq!(signal_origin(exited, 7, &signal), "");
    }
}
