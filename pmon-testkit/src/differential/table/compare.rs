//! Compares the observations on both kernels, line by line.

use super::kernel::KernelUnderTest;
use super::model::ModelKernel;
use super::run::{Disturbed, Observation, Scenario, run_scenario};
use super::running::RunningKernel;
use super::scenarios::SCENARIOS;

/// Text of a column that lacks a line.
const NO_LINE: &str = "(no such line)";

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRow {
    /// What was observed.
    pub label: String,
    /// The value on the running kernel; `None` if it was not compared.
    pub kernel: Option<String>,
    /// The value on the fake kernel.
    pub model: String,
}

impl TableRow {
    /// Returns whether both values are equal; `None` if there is only one.
    pub fn is_equal(&self) -> Option<bool> {
        self.kernel.as_ref().map(|kernel| *kernel == self.model)
    }
}

/// Runs every scenario on the running kernel, if there is one, and on the model. Yields the name of
/// each scenario, and its rows or why it has no result.
pub fn compare_scenarios<'a>(
    mut kernel: Option<&'a mut RunningKernel>,
    model: &'a mut ModelKernel,
) -> impl Iterator<Item = (&'static str, Result<Vec<TableRow>, Disturbed>)> + 'a {
    SCENARIOS.iter().copied().flatten().map(move |scenario| {
        let kernel = kernel.as_deref_mut().map(|kernel| kernel as &mut dyn KernelUnderTest);
        (scenario.name, compare(kernel, model, scenario))
    })
}

/// Runs a scenario on both kernels.
///
/// # Errors
/// [`Disturbed`], if other processes disturb each attempt.
fn compare(
    kernel: Option<&mut dyn KernelUnderTest>,
    model: &mut dyn KernelUnderTest,
    scenario: &Scenario,
) -> Result<Vec<TableRow>, Disturbed> {
    let model = run_scenario(model, scenario)?;
    match kernel {
        Some(kernel) => Ok(pair(run_scenario(kernel, scenario)?, model)),
        None => Ok(model
            .into_iter()
            .map(|line| TableRow { label: line.label, kernel: None, model: line.value })
            .collect()),
    }
}

/// Combines observations into rows. If the labels of two observations differ, the row has both of
/// them.
pub(crate) fn pair(kernel: Vec<Observation>, model: Vec<Observation>) -> Vec<TableRow> {
    let listeners = kernel.len().max(model.len());
    let mut kernel = kernel.into_iter().map(Some).chain(std::iter::repeat(None));
    let mut model = model.into_iter().map(Some).chain(std::iter::repeat(None));
    let text = |line: Option<Observation>| {
        line.map_or(NO_LINE.to_owned(), |line| format!("{}: {}", line.label, line.value))
    };
    (0..listeners)
        .map(|_| match (kernel.next().flatten(), model.next().flatten()) {
            (Some(kernel), Some(model)) if kernel.label == model.label => {
                TableRow { label: kernel.label, kernel: Some(kernel.value), model: model.value }
            }
            (kernel, model) => {
                TableRow { label: String::new(), kernel: Some(text(kernel)), model: text(model) }
            }
        })
        .collect()
}
