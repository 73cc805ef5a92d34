//! How a query reads a table: SQLite passes a plan as text from the planner to the cursor.

use std::fmt;
use std::str::FromStr;

use crate::table::BoundOp;

/// How a query reads a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Plan {
    /// The columns that the query reads, as a mask.
    pub(crate) used: u64,
    /// The column that the query looks rows up by, again and again. Its value is the first
    /// argument of the cursor.
    pub(crate) key: Option<usize>,
    /// The columns by whose values the rows must be grouped.
    pub(crate) groups: Vec<usize>,
    /// The columns that are compared with the further arguments.
    pub(crate) bounds: Vec<(usize, BoundOp)>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.used)?;
        if let Some(key) = self.key {
            write!(f, " k{key}")?;
        }
        self.groups.iter().try_for_each(|column| write!(f, " g{column}"))?;
        self.bounds.iter().try_for_each(|(column, op)| {
            let op = match op {
                BoundOp::Equal => '=',
                BoundOp::AtLeast => '>',
                BoundOp::AtMost => '<',
            };
            write!(f, " {op}{column}")
        })
    }
}

impl FromStr for Plan {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split(' ');
        let used = words.next().and_then(|used| u64::from_str_radix(used, 16).ok()).ok_or(())?;
        let mut plan = Self { used, ..Self::default() };
        for word in words {
            let (op, column) = word.split_at_checked(1).ok_or(())?;
            let column = column.parse().map_err(drop)?;
            match op {
                "k" => plan.key = Some(column),
                "g" => plan.groups.push(column),
                "=" => plan.bounds.push((column, BoundOp::Equal)),
                ">" => plan.bounds.push((column, BoundOp::AtLeast)),
                "<" => plan.bounds.push((column, BoundOp::AtMost)),
                _ => return Err(()),
            }
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_as_text() {
        let bounds = vec![(3, BoundOp::AtLeast), (3, BoundOp::AtMost), (12, BoundOp::Equal)];
        for plan in [
            Plan::default(),
            Plan { used: u64::MAX, key: Some(62), bounds: bounds.clone(), ..Plan::default() },
            Plan { used: 5, groups: vec![7, 0], bounds, ..Plan::default() },
        ] {
            assert_eq!(plan.to_string().parse(), Ok(plan));
        }
        assert_eq!("".parse::<Plan>(), Err(()));
        assert_eq!("1 x3".parse::<Plan>(), Err(()));
        assert_eq!("1 =".parse::<Plan>(), Err(()));
    }
}
