//! The two columns, line by line.

use super::host::Host;
use super::scene::{Disturbed, Line, Scenario, play};

/// What is said where a column has no such line.
const NO_LINE: &str = "(no such line)";

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) what: String,
    /// What was seen on the kernel; `None` if there was none to play on.
    pub(crate) kernel: Option<String>,
    pub(crate) model: String,
}

impl Row {
    /// Whether both have shown the same; `None` if there was only one.
    pub(crate) fn is_equal(&self) -> Option<bool> {
        self.kernel.as_ref().map(|kernel| *kernel == self.model)
    }
}

/// Plays a scenario on both.
///
/// # Errors
/// [`Disturbed`], if other processes of the host never let it be.
pub(crate) fn compare(
    kernel: Option<&mut dyn Host>,
    model: &mut dyn Host,
    scenario: &Scenario,
) -> Result<Vec<Row>, Disturbed> {
    let model = play(model, scenario)?;
    match kernel {
        Some(kernel) => Ok(pair(play(kernel, scenario)?, model)),
        None => Ok(model
            .into_iter()
            .map(|line| Row { what: line.what, kernel: None, model: line.seen })
            .collect()),
    }
}

/// Lines as rows. Where the columns do not even tell of the same thing, both are in the row, each with what it tells of.
pub(crate) fn pair(kernel: Vec<Line>, model: Vec<Line>) -> Vec<Row> {
    let count = kernel.len().max(model.len());
    let mut kernel = kernel.into_iter().map(Some).chain(std::iter::repeat(None));
    let mut model = model.into_iter().map(Some).chain(std::iter::repeat(None));
    let text =
        |line: Option<Line>| line.map_or(NO_LINE.to_owned(), |line| format!("{}: {}", line.what, line.seen));
    (0..count)
        .map(|_| match (kernel.next().flatten(), model.next().flatten()) {
            (Some(kernel), Some(model)) if kernel.what == model.what => {
                Row { what: kernel.what, kernel: Some(kernel.seen), model: model.seen }
            }
            (kernel, model) => Row { what: String::new(), kernel: Some(text(kernel)), model: text(model) },
        })
        .collect()
}
