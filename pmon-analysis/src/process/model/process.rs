//! What the model knows of one process.

use pmon_core::capture::{Credentials, Details, DetailsSubject, MissReason, ProcessContext};
use pmon_core::{MonoNs, Tgid};

use super::ProcessModel;
use super::image::{Image, Text};
use super::table::{NONE, Process, Slot};

/// Inode number of the initial PID namespace (`PROC_PID_INIT_INO` of `linux/proc_ns.h`).
const INITIAL_PID_NAMESPACE: u32 = 0xEFFF_FFFC;

/// A running process of a [`ProcessModel`]. Unknown properties are `None`.
#[derive(Clone, Copy, Debug)]
pub struct ProcessRef<'a> {
    pub(super) model: &'a ProcessModel,
    pub(super) slot: Slot,
}

impl<'a> ProcessRef<'a> {
    /// Returns the process ID.
    pub fn pid(&self) -> Tgid {
        Tgid(self.process().pid)
    }

    /// Returns the current parent. When a parent ends, its children get parent 1, unless an event
    /// names another one.
    pub fn ppid(&self) -> Option<Tgid> {
        self.model.table.ppid(self.slot).map(Tgid)
    }

    /// Returns the start time in clock ticks since boot, from the kernel if it is recorded.
    /// Otherwise the time of the fork event, which is slightly later.
    pub fn start_ticks(&self) -> Option<u64> {
        start_ticks(self.model, self.process())
    }

    /// Returns the time of the fork event; `None` if the fork was lost or happened before the
    /// recording.
    pub fn forked_at(&self) -> Option<MonoNs> {
        self.process().fork.map(|(time, _)| time)
    }

    /// Returns how long the process has existed at `time`, in ns, including suspend.
    pub fn age_at(&self, time: MonoNs) -> Option<u64> {
        let process = self.process();
        let start = match (process.fork, process.start_ticks) {
            (Some((_, boot_ns)), _) => boot_ns,
            (None, Some(ticks)) => {
                let ns = u128::from(ticks) * 1_000_000_000;
                u64::try_from(ns.checked_div(u128::from(self.model.ticks_per_second))?).ok()?
            }
            (None, None) => return None,
        };
        Some(self.model.boot_ns(time).saturating_sub(start))
    }

    /// Returns the time of the exec of the current program, by the process or by the ancestor from
    /// which it inherited the program.
    pub fn exec_at(&self) -> Option<MonoNs> {
        self.process().exec
    }

    /// Returns the name of the first thread.
    pub fn comm(&self) -> Option<&'a [u8]> {
        self.model.name(self.slot).get()
    }

    /// Returns the path of the executable.
    pub fn exe(&self) -> Option<&'a [u8]> {
        self.text(Text::Exe)
    }

    /// Returns the arguments; each ends with a zero byte.
    pub fn args(&self) -> Option<&'a [u8]> {
        self.text(Text::Args)
    }

    /// Returns the working directory.
    pub fn cwd(&self) -> Option<&'a [u8]> {
        self.text(Text::Cwd)
    }

    /// Returns the content of `/proc/<pid>/cgroup` without the final newline.
    pub fn cgroup(&self) -> Option<&'a [u8]> {
        self.text(Text::Cgroup)
    }

    /// Returns the names of the container, as in [`Details::container`].
    pub fn container(&self) -> Option<&'a [u8]> {
        self.text(Text::Container)
    }

    /// Returns the real and the effective user ID.
    pub fn uid(&self) -> Option<(u32, u32)> {
        self.process().uid
    }

    /// Returns the real and the effective group ID.
    pub fn gid(&self) -> Option<(u32, u32)> {
        self.process().gid
    }

    /// Returns session, group, login, cgroup and namespace.
    ///
    /// The process ID in a PID namespace other than the initial one is unknown from the fork to the
    /// exec; it is 0 then.
    pub fn context(&self) -> Option<ProcessContext> {
        let (process, shared) = (self.process(), self.image()?.context?);
        Some(ProcessContext {
            session: process.session?,
            group: process.group?,
            login_uid: shared.login_uid,
            cgroup: shared.cgroup,
            pid_namespace: shared.pid_namespace,
            pid: match shared.pid_namespace {
                INITIAL_PID_NAMESPACE => process.pid,
                _ => process.namespace_pid.unwrap_or(0),
            },
        })
    }

    /// Returns the number of threads, if all of them are known.
    pub fn threads(&self) -> Option<u32> {
        let process = self.process();
        process.exits.knows_threads(self.model.era).then_some(1 + process.forked_threads)
    }

    /// Returns all that is known of the process, as a scan of `/proc` would have recorded it.
    pub fn details(&self) -> Details {
        let (process, image) = (self.process(), self.image());
        let owned = |text| self.text(text).map(<[u8]>::to_vec);
        // Without its start time, the parent of a process that the recorder saw start is assumed.
        let is_assumed = process.is_parent_assumed && process.fork.is_some();
        let parent = self.model.table.find(self.model.table.ppid(self.slot).unwrap_or(0));
        let parent = parent.filter(|_| !is_assumed);
        Details {
            subject: DetailsSubject::Snapshot { tgid: Tgid(process.pid) },
            // The process was forked by one of which nothing is known.
            miss: image.map_or(Some(MissReason::Busy), |image| image.miss),
            ppid: self.model.table.ppid(self.slot),
            start_ticks: self.start_ticks(),
            parent_start_ticks: parent
                .and_then(|parent| start_ticks(self.model, self.model.table.get(parent))),
            ids: process.uid.zip(process.gid).map(|((uid, euid), (gid, egid))| Credentials {
                uid,
                euid,
                gid,
                egid,
            }),
            comm: self.comm().map(<[u8]>::to_vec),
            exe: owned(Text::Exe),
            filename: owned(Text::Filename),
            cwd: owned(Text::Cwd),
            cgroup: owned(Text::Cgroup),
            container: owned(Text::Container),
            args: owned(Text::Args),
            args_len: image.and_then(Image::args_len),
            context: self.context(),
            threads: self.threads(),
            forked: self.forked_at(),
        }
    }

    fn process(&self) -> &'a Process {
        debug_assert_ne!(self.slot, NONE);
        self.model.table.get(self.slot)
    }

    fn image(&self) -> Option<&'a Image> {
        self.model.table.images.get(self.process().image)
    }

    fn text(&self, text: Text) -> Option<&'a [u8]> {
        self.image()?.text(text)
    }
}

fn start_ticks(model: &ProcessModel, process: &Process) -> Option<u64> {
    process.start_ticks.or_else(|| model.boot_ticks(process.fork?.1))
}
