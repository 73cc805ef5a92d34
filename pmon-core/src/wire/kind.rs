//! The kinds of event: the only table of their names and codes.

use std::fmt;

/// Declares [`EventKind`] from one row per kind: variant, name, code in `proc_event.what`.
macro_rules! event_kinds {
    ($($(#[$doc:meta])* $kind:ident, $name:literal, $what:ident = $code:literal;)*) => {
        /// The kind of an event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum EventKind {
            $($(#[$doc])* $kind,)*
            /// A kind that this version does not support:
            /// [`EventBody::Unknown`](super::EventBody::Unknown).
            Unknown,
        }

        impl EventKind {
            /// All kinds in the order of their declaration: `ALL[kind as usize] == kind`.
            pub const ALL: [Self; 11] = [$(Self::$kind,)* Self::Unknown];

            /// Returns the kind's name in every interface of pmon.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                    Self::Unknown => "unknown",
                }
            }

            /// Returns the kind's `proc_event.what` (`enum proc_cn_event` in
            /// `include/uapi/linux/cn_proc.h`); `None` for [`EventKind::Unknown`].
            #[inline]
            pub fn what(self) -> Option<u32> {
                match self {
                    $(Self::$kind => Some($what),)*
                    Self::Unknown => None,
                }
            }
        }

        $(pub(super) const $what: u32 = $code;)*
    };
}

event_kinds! {
    /// A reply to a subscription request.
    Ack, "ack", PROC_EVENT_NONE = 0;
    /// A new process or thread.
    Fork, "fork", PROC_EVENT_FORK = 1;
    /// A process runs a new program.
    Exec, "exec", PROC_EVENT_EXEC = 2;
    /// The real or effective user id changed.
    Uid, "uid", PROC_EVENT_UID = 4;
    /// The real or effective group id changed.
    Gid, "gid", PROC_EVENT_GID = 0x40;
    /// A process became the leader of a new session.
    Sid, "sid", PROC_EVENT_SID = 0x80;
    /// A tracer attached or detached.
    Ptrace, "ptrace", PROC_EVENT_PTRACE = 0x100;
    /// A thread changed its own name.
    Comm, "comm", PROC_EVENT_COMM = 0x200;
    /// A process dumps core.
    Coredump, "coredump", PROC_EVENT_COREDUMP = 0x4000_0000;
    /// A thread exited.
    Exit, "exit", PROC_EVENT_EXIT = 0x8000_0000;
}

impl EventKind {
    /// Returns the kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
