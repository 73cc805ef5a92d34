//! The two columns, line by line.

use super::host::Host;
use super::model::Model;
use super::real::Kernel;
use super::scenarios::SCENARIOS;
use super::scene::{Disturbed, Line, Scenario, play};

/// What is said where a column has no such line.
const NO_LINE: &str = "(no such line)";

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub what: String,
    /// What was seen on the kernel; `None` if there was none to play on.
    pub kernel: Option<String>,
    pub model: String,
}

impl Row {
    /// Whether both have shown the same; `None` if there was only one.
    pub fn is_equal(&self) -> Option<bool> {
        self.kernel.as_ref().map(|kernel| *kernel == self.model)
    }
}

/// Plays every scenario on the kernel, if there is one, and on the model. Yields the name of each
/// scenario, and its rows or why it could not be played.
pub fn compare_scenarios<'a>(
    mut kernel: Option<&'a mut Kernel>,
    model: &'a mut Model,
) -> impl Iterator<Item = (&'static str, Result<Vec<Row>, Disturbed>)> + 'a {
    SCENARIOS.iter().copied().flatten().map(move |scenario| {
        let kernel = kernel.as_deref_mut().map(|kernel| kernel as &mut dyn Host);
        (scenario.name, compare(kernel, model, scenario))
    })
}

/// Plays a scenario on both.
///
/// # Errors
/// [`Disturbed`], if other processes of the host never let it be.
fn compare(
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
