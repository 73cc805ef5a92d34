//! Whether the kernel still speaks to us: of two heartbeats one must have been heard.

/// So many heartbeats in a row without an event of the kernel are no accident.
const MISSES: u64 = 2;

/// See the module. Told of every look at the source that found it empty.
#[derive(Debug, Default)]
pub(crate) struct Vigil {
    /// Heartbeats up to this number need no answer any more.
    answered: u64,
    blind: bool,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing is heard any more, or still not: time to do something about it.
    Blind,
    /// Something is heard again.
    Sees,
}

impl Vigil {
    /// Something was heard, or it is known why not; `beats` is their number after the look.
    pub(crate) fn heard(&mut self, beats: u64) -> Option<Change> {
        self.answered = beats;
        std::mem::take(&mut self.blind).then_some(Change::Sees)
    }

    /// Nothing was heard; `beats` is their number before the look.
    pub(crate) fn silence(&mut self, beats: u64) -> Option<Change> {
        if beats.saturating_sub(self.answered) < MISSES {
            return None;
        }
        self.answered = beats;
        self.blind = true;
        Some(Change::Blind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_misses_in_a_row_are_blindness_and_one_is_not() {
        let mut vigil = Vigil::default();
        assert_eq!((vigil.silence(1), vigil.heard(1)), (None, None));
        assert_eq!((vigil.silence(2), vigil.silence(2)), (None, None));
        assert_eq!(vigil.silence(3), Some(Change::Blind));
        // While it lasts, every second beat is an occasion to try again.
        assert_eq!((vigil.silence(4), vigil.silence(5)), (None, Some(Change::Blind)));
        assert_eq!(vigil.heard(6), Some(Change::Sees));
        assert_eq!(vigil.heard(6), None);
    }
}
