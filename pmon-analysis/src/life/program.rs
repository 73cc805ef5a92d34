//! The texts of a program, which a process shares with the children that it forks.

use std::sync::{Arc, LazyLock, OnceLock};

use pmon_core::capture::{ContainerNames, Details, MissReason, argv};

use super::texts::SharedTexts;
use crate::process::Name;

/// A program that a process executed. Unknown texts are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Name that the exec gave to the first thread.
    pub comm: Option<Arc<[u8]>>,
    /// Path of the executable.
    pub exe: Option<Arc<[u8]>>,
    /// Path that the caller passed to `execve(2)`; for a script, the path of the script.
    pub filename: Option<Arc<[u8]>>,
    /// Working directory at the exec.
    pub cwd: Option<Arc<[u8]>>,
    /// Content of `/proc/<pid>/cgroup` without the final newline.
    pub cgroup: Option<Arc<[u8]>>,
    /// Names of the container, as in [`Details::container`].
    pub container: Option<Arc<[u8]>>,
    /// Arguments; each ends with a zero byte.
    pub args: Option<Arc<[u8]>>,
    /// Full length of the arguments in bytes, if `args` holds only the first ones.
    pub args_len: Option<u64>,
    /// User ID of the login session; `u32::MAX` without a login.
    pub login_uid: Option<u32>,
    /// Inode number of the PID namespace; `None` if it is unknown.
    pub pid_namespace: Option<u32>,
    /// Why some fields are missing.
    pub miss: Option<MissReason>,
}

impl Program {
    /// Returns whether this is no program, but a thread of the kernel, which has no executable and
    /// no arguments.
    pub fn is_kernel_thread(&self) -> bool {
        let is_described = self.cgroup.is_some() || self.login_uid.is_some();
        self.exe.is_none() && self.args.is_none() && self.miss.is_none() && is_described
    }

    /// Returns the names of the container.
    pub fn container_names(&self) -> ContainerNames<'_> {
        self.container.as_deref().map(ContainerNames::parse).unwrap_or_default()
    }

    /// Returns what an exec preserves of the program before: the working directory, the cgroup, the
    /// login and the namespace.
    pub(super) fn preserved(&self) -> Self {
        Self {
            cwd: self.cwd.clone(),
            cgroup: self.cgroup.clone(),
            container: self.container.clone(),
            login_uid: self.login_uid,
            pid_namespace: self.pid_namespace,
            ..Self::default()
        }
    }

    /// Returns the program with the fields of `details`, and of `self` where `details` lacks them.
    pub(super) fn with(&self, details: &Details, texts: &mut SharedTexts) -> Self {
        // Most execs stay in the same directory and cgroup, whose text is then shared.
        let mut text = |new: &Option<Vec<u8>>, old: &Option<Arc<[u8]>>| match (new, old) {
            (Some(new), Some(old)) if **new == **old => Some(Arc::clone(old)),
            (Some(new), _) => Some(texts.share(new)),
            (None, old) => old.clone(),
        };
        let context = details.context;
        // The names of a container belong to its cgroup.
        let has_moved = details.cgroup.is_some() && details.cgroup.as_deref() != self.cgroup.as_deref();
        let own_container = if has_moved { &None } else { &self.container };
        Self {
            exe: text(&details.exe, &self.exe),
            filename: text(&details.filename, &self.filename),
            cwd: text(&details.cwd, &self.cwd),
            cgroup: text(&details.cgroup, &self.cgroup),
            container: text(&details.container, own_container),
            args: text(&details.args, &self.args),
            comm: Name::of_details(details).get().map(|name| texts.share(name)),
            args_len: if details.args.is_some() { details.args_len } else { self.args_len },
            login_uid: context.map(|context| context.login_uid).or(self.login_uid),
            pid_namespace: context
                .map(|context| context.pid_namespace)
                .filter(|&namespace| namespace != 0)
                .or(self.pid_namespace),
            miss: details.miss,
        }
    }

    /// Returns the arguments one by one; none if they are unknown.
    pub fn argv(&self) -> impl Iterator<Item = &[u8]> {
        argv(self.args.as_deref().unwrap_or_default())
    }
}

/// A program whose details may arrive later than its exec. All copies show them once they have.
#[derive(Clone, Debug)]
pub struct ProcessProgram(Arc<ProgramSlot>);

#[derive(Debug)]
struct ProgramSlot {
    /// What was known before the details arrived.
    before: Program,
    details: OnceLock<Program>,
}

impl ProcessProgram {
    /// Returns what is known of the program.
    pub fn get(&self) -> &Program {
        self.0.details.get().unwrap_or(&self.0.before)
    }

    /// Creates a program without further details.
    pub(super) fn known(program: Program) -> Self {
        Self(Arc::new(ProgramSlot { before: Program::default(), details: OnceLock::from(program) }))
    }

    /// Creates the program of an exec, whose details arrive later.
    pub(super) fn awaited(before: Program) -> Self {
        Self(Arc::new(ProgramSlot { before, details: OnceLock::new() }))
    }

    /// Returns whether details may still arrive.
    pub fn is_awaited(&self) -> bool {
        self.0.details.get().is_none()
    }

    /// Adds the details, unless the program has some.
    pub(super) fn set(&self, details: &Details, texts: &mut SharedTexts) {
        self.0.details.get_or_init(|| self.0.before.with(details, texts));
    }

    /// Notes that no details arrive.
    pub(super) fn give_up(&self) {
        let _ = self.0.details.set(self.0.before.clone());
    }

    /// Whether both are the same exec.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Default for ProcessProgram {
    /// Returns a program of which nothing is known.
    fn default() -> Self {
        static UNKNOWN: LazyLock<ProcessProgram> =
            LazyLock::new(|| ProcessProgram::known(Program::default()));
        UNKNOWN.clone()
    }
}
