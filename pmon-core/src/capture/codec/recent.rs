//! The tasks that most recently acted although another task was predicted.

/// Number of tasks in the list.
pub(crate) const RECENT_TASKS: usize = 16;

/// Thread ids, the latest first; 0 in unused entries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RecentTasks([u32; RECENT_TASKS]);

impl RecentTasks {
    /// Returns the task at an index; `None` if the index is out of range.
    #[inline]
    pub(crate) fn at(&self, index: u64) -> Option<u32> {
        self.0.get(usize::try_from(index).unwrap_or(RECENT_TASKS)).copied()
    }

    /// Returns the first index whose task matches.
    #[inline]
    pub(crate) fn index(&self, matches: impl Fn(u32) -> bool) -> Option<usize> {
        self.0.iter().position(|&tid| matches(tid))
    }

    /// Moves a task from `index` to the front. If the index is out of range, inserts the task and
    /// removes the last one.
    #[inline]
    pub(crate) fn bring_forward(&mut self, tid: u32, index: u64) {
        let index = usize::try_from(index).unwrap_or(RECENT_TASKS).min(RECENT_TASKS - 1);
        self.0.copy_within(..index, 1);
        self.0[0] = tid;
    }

    /// Inserts a task at the front and removes the last one.
    #[inline]
    pub(crate) fn insert(&mut self, tid: u32) {
        self.0.copy_within(..RECENT_TASKS - 1, 1);
        self.0[0] = tid;
    }

    /// Removes a task if it is in the list.
    #[inline]
    pub(crate) fn remove(&mut self, tid: u32) {
        if let Some(index) = self.index(|other| other == tid) {
            self.0.copy_within(index + 1.., index);
            self.0[RECENT_TASKS - 1] = 0;
        }
    }
}
