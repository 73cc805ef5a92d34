//! Profiles: the fields of details that processes share, stored once and referred to by number.
//!
//! Most details differ from earlier ones in their arguments only.

use std::collections::HashMap;

use super::column::{Column, ColumnValues, ColumnWriter};
use super::strings::{Interner, StringReader};

/// Code of the predicted profile.
const EXPECTED: u64 = 0;
/// Code of a new profile, whose fields follow.
const NEW: u64 = 1;
/// Code of profile number 0; the number is added.
const OLD: u64 = 2;

/// Number of processes whose last profile is remembered, by process id modulo this number.
const PROCESSES: usize = 4096;

/// Columns of the fields whose strings are in the table of strings.
pub(crate) const STRINGS: [Column; 5] =
    [Column::DetailsIds, Column::DetailsComm, Column::DetailsExe, Column::DetailsCwd, Column::DetailsCgroup];
/// Index of the executable in [`STRINGS`].
pub(crate) const EXE: usize = 2;
/// Columns of the fields whose strings are in the table of names.
const NAMES: [Column; 2] = [Column::DetailsFilename, Column::DetailsContext];

/// Recorded values of the fields of a profile.
type Parts<'a, const N: usize> = [Option<&'a [u8]>; N];

/// The shared fields of a process's details.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct DetailsProfile {
    /// Code of the reason why fields are missing; 0 for none.
    pub(crate) miss: u64,
    /// Whether the arguments are known.
    pub(crate) has_args: bool,
    /// String numbers of the fields in [`STRINGS`].
    pub(crate) strings: [Option<u32>; STRINGS.len()],
    /// String numbers of the fields in [`NAMES`].
    pub(crate) names: [Option<u32>; NAMES.len()],
}

/// The profiles of a block so far, with the state that predicts the next one.
#[derive(Default)]
pub(crate) struct DetailsProfiles {
    profiles: Vec<DetailsProfile>,
    numbers: HashMap<DetailsProfile, u32>,
    /// For each profile, the one that followed it in the same family.
    next: Vec<Option<u32>>,
    /// Process ids, each with the last profile of the process or of one of its children.
    families: Vec<(u32, Option<u32>)>,
}

impl DetailsProfiles {
    pub(crate) fn reset(&mut self) {
        self.profiles.clear();
        self.numbers.clear();
        self.next.clear();
        self.families.clear();
    }

    fn last_of(&self, pid: u32) -> Option<u32> {
        self.families.get(pid as usize % PROCESSES).filter(|(of, _)| *of == pid).and_then(|(_, last)| *last)
    }

    fn expected(&self, parent: u32) -> Option<u32> {
        self.last_of(parent).and_then(|last| self.next.get(last as usize).copied().flatten())
    }

    fn learn(&mut self, pid: u32, parent: u32, number: u32) {
        if let Some(next) = self.last_of(parent).and_then(|last| self.next.get_mut(last as usize)) {
            *next = Some(number);
        }
        self.families.resize(PROCESSES, (0, None));
        for pid in [parent, pid] {
            self.families[pid as usize % PROCESSES] = (pid, Some(number));
        }
    }

    fn add(&mut self, profile: DetailsProfile) -> u32 {
        self.profiles.push(profile);
        self.next.push(None);
        self.profiles.len() as u32 - 1
    }

    /// Writes the profile of a process with these fields, and returns it.
    pub(crate) fn encode(
        &mut self,
        (pid, parent): (u32, u32),
        (miss, has_args): (u64, bool),
        (strings, names): (Parts<'_, { STRINGS.len() }>, Parts<'_, { NAMES.len() }>),
        out: &mut ColumnWriter,
        (strings_in, names_in): (&mut Interner, &mut Interner),
    ) -> DetailsProfile {
        let codes = strings.map(|string| strings_in.code(string));
        let name_codes = names.map(|name| names_in.code(name));
        let (strings, names) = (codes.map(|(_, number)| number), name_codes.map(|(_, number)| number));
        let profile = DetailsProfile { miss, has_args, strings, names };
        let number = if let Some(&number) = self.numbers.get(&profile) {
            let is_expected = self.expected(parent) == Some(number);
            out.put(Column::DetailsProfile, if is_expected { EXPECTED } else { OLD + u64::from(number) });
            number
        } else {
            out.put(Column::DetailsProfile, NEW);
            out.put(Column::DetailsMiss, miss);
            out.put(Column::DetailsArgs, has_args.into());
            for (column, (code, _)) in STRINGS.into_iter().zip(codes).chain(NAMES.into_iter().zip(name_codes))
            {
                out.put(column, code);
            }
            let number = self.add(profile);
            self.numbers.insert(profile, number);
            number
        };
        self.learn(pid, parent, number);
        profile
    }

    /// Reads the profile of a process.
    pub(crate) fn decode(
        &mut self,
        (pid, parent): (u32, u32),
        from: &mut ColumnValues<'_>,
        (strings, names): (&mut StringReader<'_>, &mut StringReader<'_>),
    ) -> DetailsProfile {
        let number = match from.take(Column::DetailsProfile) {
            EXPECTED => self.expected(parent),
            NEW => {
                let (miss, has_args) = (from.take(Column::DetailsMiss), from.take(Column::DetailsArgs) != 0);
                let strings = STRINGS.map(|column| strings.number(from.take(column)));
                let names = NAMES.map(|column| names.number(from.take(column)));
                Some(self.add(DetailsProfile { miss, has_args, strings, names }))
            }
            code => u32::try_from(code - OLD).ok(),
        };
        // Only a forged file refers to a profile that does not exist.
        let Some(number) = number else { return DetailsProfile::default() };
        self.learn(pid, parent, number);
        self.profiles.get(number as usize).copied().unwrap_or_default()
    }
}
