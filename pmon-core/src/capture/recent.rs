//! The tasks that may act next though they were not expected to: a list that is kept in the order of surprise.

/// How many tasks are in the list.
pub(super) const PLACES: usize = 16;

/// Thread ids, the latest first; 0 where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recent([u32; PLACES]);

impl Recent {
    /// Where a task stands.
    #[inline]
    pub(super) fn find(&self, tid: u32) -> Option<usize> {
        self.0.iter().position(|&other| other == tid)
    }

    /// Puts a task in front; the last one falls out.
    #[inline]
    pub(super) fn insert(&mut self, tid: u32) {
        self.0.copy_within(..PLACES - 1, 1);
        self.0[0] = tid;
    }

    /// Moves the task at `place`, which must be below [`PLACES`], to the front, and says which it is.
    #[inline]
    pub(super) fn bring_forward(&mut self, place: usize) -> u32 {
        self.0[..=place].rotate_right(1);
        self.0[0]
    }

    /// Takes a task out, if it is there.
    #[inline]
    pub(super) fn remove(&mut self, tid: u32) {
        if let Some(place) = self.find(tid) {
            self.0[place..].rotate_left(1);
            self.0[PLACES - 1] = 0;
        }
    }
}
