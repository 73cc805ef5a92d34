//! Values that have names in the options, and whose types belong to other crates.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// Returns a parser of values, of which each has a name and a help text.
pub(super) fn named<T: Copy + Send + Sync + 'static>(
    values: &'static [(&'static str, T, &'static str)],
) -> impl TypedValueParser<Value = T> {
    let names = values.iter().map(|&(name, _, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(names).try_map(move |name| {
        let value = values.iter().find(|value| value.0 == name);
        value.map(|value| value.1).ok_or("unknown value")
    })
}
