//! The tasks that may act next though they were not expected to: a list that is kept in the order of surprise.

/// How many tasks are in the list.
pub(crate) const PLACES: usize = 16;

/// Thread ids, the latest first; 0 where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recent([u32; PLACES]);

impl Recent {
    /// The task at a place, if there is such a place.
    #[inline]
    pub(crate) fn at(&self, place: u64) -> Option<u32> {
        self.0.get(usize::try_from(place).unwrap_or(PLACES)).copied()
    }

    /// The first place whose task is the one wanted.
    #[inline]
    pub(crate) fn place(&self, is_wanted: impl Fn(u32) -> bool) -> Option<usize> {
        self.0.iter().position(|&tid| is_wanted(tid))
    }

    /// Puts a task in front. If it stands at `place`, it leaves that; else the last task falls out.
    #[inline]
    pub(crate) fn bring_forward(&mut self, tid: u32, place: u64) {
        let place = usize::try_from(place).unwrap_or(PLACES).min(PLACES - 1);
        self.0.copy_within(..place, 1);
        self.0[0] = tid;
    }

    /// Puts a new task in front; the last one falls out.
    #[inline]
    pub(crate) fn insert(&mut self, tid: u32) {
        self.0.copy_within(..PLACES - 1, 1);
        self.0[0] = tid;
    }

    /// Takes a task out, if it is there.
    #[inline]
    pub(crate) fn remove(&mut self, tid: u32) {
        if let Some(place) = self.place(|other| other == tid) {
            self.0.copy_within(place + 1.., place);
            self.0[PLACES - 1] = 0;
        }
    }
}
