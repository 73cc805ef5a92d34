//! Why a subscription failed, and what to do about it.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::handover::HandoverError;
use crate::scope::{Scope, ScopeError};

/// Minimum limit on open files (`ulimit -n`). A recorder opens about 30; the rest is a reserve.
pub(crate) const MIN_OPEN_FILES: u64 = 48;

/// Why a subscription failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The limit on open files is too low for a recorder.
    #[error(
        "cannot record with at most {limit} open files: a recorder needs {MIN_OPEN_FILES}; raise the limit (ulimit -n)"
    )]
    Files {
        /// The limit.
        limit: u64,
    },
    /// The kernel has no netlink connector.
    #[error(
        "this kernel has no process events (socket: {source}): it was built without CONFIG_CONNECTOR; \
         use a kernel with CONFIG_CONNECTOR=y and CONFIG_PROC_EVENTS=y"
    )]
    NoConnector {
        /// The system's error.
        source: io::Error,
    },
    /// The caller lacks a capability.
    #[error(
        "no permission to {action} the proc connector: before Linux 6.6 that takes CAP_NET_ADMIN; run as root, \
         or `setcap cap_net_admin+ep` the program"
    )]
    Permission {
        /// The operation that the kernel refused.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The kernel has no proc connector in this network namespace, or none at all.
    #[error(
        "the proc connector does not answer ({source}): it exists only in the host's first network namespace; \
         run on the host, or in a container with --network=host; on the host itself, the kernel lacks CONFIG_PROC_EVENTS"
    )]
    NetNamespace {
        /// The system's error.
        source: io::Error,
    },
    /// The kernel ignores requests from this namespace.
    #[error(
        "the kernel ignores subscriptions from this {kind} namespace: run on the host, or in a container with \
         {hint}"
    )]
    Namespace {
        /// The kind of namespace: `user` or `PID`.
        kind: &'static str,
        /// The option that makes a container share the host's namespace.
        hint: &'static str,
    },
    /// The kernel sent no acknowledgement.
    #[error(
        "the kernel did not acknowledge the subscription within {} ms, although {added} listeners were added to its \
         count: {}", timeout.as_millis(), missing_ack_cause(*has_events)
    )]
    NoAck {
        /// The time waited.
        timeout: Duration,
        /// Number of listeners that were added meanwhile.
        added: u64,
        /// Whether the kernel has process events; `None` if unknown.
        has_events: Option<bool>,
    },
    /// The ring cannot be attached, and the options allow no other transport.
    #[error(
        "cannot attach the ring: {why}; use --transport auto to record with the best transport that is available"
    )]
    Ring {
        /// The reason.
        why: String,
    },
    /// The scope excludes events, and only a ring can exclude events and count them.
    #[error("cannot record a part of the events without a ring: {why}; record everything, and {instead}")]
    ScopeNeedsRing {
        /// Why there is no ring.
        why: String,
        /// How to select from a capture of everything.
        instead: &'static str,
    },
    /// The scope names something that does not exist or is of the wrong kind.
    #[error(transparent)]
    InvalidScope(#[from] ScopeError),
    /// The processes of the tree could not be marked.
    #[error("cannot find the processes of --tree: {source}; is /proc mounted?")]
    Tree {
        /// The system's error.
        source: io::Error,
    },
    /// There is not enough memory for the buffer between the threads.
    #[error(
        "cannot allocate the {bytes} bytes of --buffer: there is less memory, or the limit on address space is lower \
         (ulimit -v); use a smaller --buffer"
    )]
    Memory {
        /// Number of bytes requested.
        bytes: usize,
    },
    /// The socket's buffer is smaller than required.
    #[error(
        "the socket's buffer has only {effective} of the {required} bytes required: run as root or with \
         CAP_NET_ADMIN, raise net.core.rmem_max (sysctl), or require less"
    )]
    Buffer {
        /// Effective size in bytes, as the kernel accounts for it.
        effective: u64,
        /// Required size in bytes.
        required: u64,
    },
    /// The descriptors of an earlier recorder cannot be used.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// Any other failure of the socket.
    #[error("cannot {action} a proc connector socket: {source}")]
    Socket {
        /// The operation that failed.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl SubscribeError {
    /// Returns the error of a scope that needs a ring, when there is none because of `why`.
    pub(crate) fn scope_needs_ring(scope: &Scope, why: String) -> Self {
        // A reader can select by kind and tree, but not by user or cgroup.
        let instead = if scope.uids.is_empty() && scope.cgroup.is_none() {
            "choose when reading (`pmon print --kind, --tree, ...`)"
        } else {
            "choose when reading (`pmon print --format json` has the user and the cgroup of each exec)"
        };
        Self::ScopeNeedsRing { why, instead }
    }

    /// Returns the error of an `action` that failed with `source`.
    pub(crate) fn refused(action: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Permission { action, source },
            Some(libc::ECONNREFUSED) => Self::NetNamespace { source },
            _ => Self::Socket { action, source },
        }
    }
}

/// Returns the likely cause of a missing acknowledgement, and what to do.
fn missing_ack_cause(has_events: Option<bool>) -> &'static str {
    match has_events {
        Some(true) => {
            "it has process events, but counts no listener, so it emits none: another process has lowered the count \
             (by requests to the proc connector with an invalid operation), or keeps lowering it; end that process, and \
             start again: the added listeners stay"
        }
        Some(false) => "it was built without CONFIG_PROC_EVENTS; use a kernel with CONFIG_PROC_EVENTS=y",
        None => {
            "either it was built without CONFIG_PROC_EVENTS (zgrep PROC_EVENTS /proc/config.gz), or another process has \
             lowered the count (by requests to the proc connector with an invalid operation); in that case, end that \
             process, and start again: the added listeners stay"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_symbols_decide_the_cause_of_a_missing_acknowledgement() {
        let text = |has_events| {
            let timeout = Duration::from_secs(1);
            SubscribeError::NoAck { timeout, added: 7, has_events }.to_string()
        };
        let with_events = text(Some(true));
        assert!(
            with_events.contains("7 listeners were added to its count: it has process events"),
            "{with_events}"
        );
        assert!(!with_events.contains("CONFIG_PROC_EVENTS"));
        assert!(text(Some(false)).contains("built without CONFIG_PROC_EVENTS"));
        assert!(text(None).contains("CONFIG_PROC_EVENTS") && text(None).contains("another process"));
    }
}
