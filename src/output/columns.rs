//! The columns of a table that fit the width of a terminal.

/// Returns which columns fit `width` beside a last column of `last` characters. A column has its
/// name and its width. `optional` are the names of those that are left out, in this order, if there
/// is no room.
pub(crate) fn fitting_columns<const N: usize>(
    columns: [(&str, usize); N],
    optional: &[&str],
    last: usize,
    width: Option<usize>,
) -> [bool; N] {
    let mut shown = [true; N];
    let Some(width) = width else { return shown };
    let mut optional = optional.iter();
    loop {
        let shown_columns = columns.iter().zip(shown).filter(|(_, is_shown)| *is_shown);
        let used: usize = shown_columns.map(|((_, width), _)| width + 1).sum();
        let hidden = if used + last > width { optional.next() } else { None };
        let Some(hidden) = hidden else { return shown };
        columns.iter().zip(&mut shown).for_each(|((name, _), is_shown)| *is_shown &= name != hidden);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_without_room_are_left_out_in_order() {
        let fitting = |width| fitting_columns([("A", 3), ("B", 5), ("C", 2)], &["B", "A"], 4, width);
        assert_eq!(fitting(None), [true; 3]);
        assert_eq!([17, 16].map(|width| fitting(Some(width))), [[true; 3], [true, false, true]]);
        assert_eq!([11, 10].map(|width| fitting(Some(width))), [[true, false, true], [false, false, true]]);
        assert_eq!(fitting(Some(0)), [false, false, true]);
    }
}
