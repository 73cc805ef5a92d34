//! What processes of one program have in common, as one number: most details differ from others before in their
//! arguments alone.

use std::collections::HashMap;

use super::column::{Column, ColumnReader, ColumnWriter, Values};
use super::strings::{Interner, Strings};

const EXPECTED: u64 = 0;
const NEW: u64 = 1;
const OLD: u64 = 2;

const PROCESSES: usize = 4096;

/// The parts of a profile that are strings, in the order of their columns.
pub(crate) const STRINGS: [Column; 5] =
    [Column::DetailsIds, Column::DetailsComm, Column::DetailsExe, Column::DetailsCwd, Column::DetailsCgroup];
/// The place of the executable in them.
pub(crate) const EXE: usize = 2;
/// The parts that are in a table of their own: file names, and where processes belong.
const NAMES: [Column; 2] = [Column::DetailsFilename, Column::DetailsContext];

/// Parts of a profile, as they were recorded.
type Parts<'a, const N: usize> = [Option<&'a [u8]>; N];

/// All of a process's details that others share.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Profile {
    /// The code of what is missing.
    pub(crate) miss: u64,
    /// Whether there are arguments.
    pub(crate) has_args: bool,
    /// The numbers of [`STRINGS`].
    pub(crate) strings: [Option<u32>; STRINGS.len()],
    /// The numbers of [`NAMES`].
    pub(crate) names: [Option<u32>; NAMES.len()],
}

/// The profiles so far, and which is expected next.
#[derive(Default)]
pub(crate) struct Profiles {
    profiles: Vec<Profile>,
    numbers: HashMap<Profile, u32>,
    /// The profile that followed each in its family.
    next: Vec<Option<u32>>,
    /// A process, and the profile last seen of it or of a child of its.
    families: Vec<(u32, Option<u32>)>,
}

impl Profiles {
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

    fn add(&mut self, profile: Profile) -> u32 {
        self.profiles.push(profile);
        self.next.push(None);
        self.profiles.len() as u32 - 1
    }

    /// Writes the profile of a process, of which `strings` and `names` are the parts. The answer holds their numbers.
    pub(crate) fn encode(
        &mut self,
        (pid, parent): (u32, u32),
        (miss, has_args): (u64, bool),
        (strings, names): (Parts<'_, { STRINGS.len() }>, Parts<'_, { NAMES.len() }>),
        out: &mut ColumnWriter,
        (strings_in, names_in): (&mut Interner, &mut Interner),
    ) -> Profile {
        let codes = strings.map(|string| strings_in.code(string));
        let name_codes = names.map(|name| names_in.code(name));
        let (strings, names) = (codes.map(|(_, number)| number), name_codes.map(|(_, number)| number));
        let profile = Profile { miss, has_args, strings, names };
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
        from: &mut ProfileColumns<'_>,
        (strings, names): (&mut Strings<'_>, &mut Strings<'_>),
    ) -> Profile {
        let number = match from.profile.take() {
            EXPECTED => self.expected(parent),
            NEW => {
                let (miss, has_args) = (from.miss.take(), from.args.take() != 0);
                let strings = from.strings.each_mut().map(|codes| strings.number(codes.take()));
                let names = from.names.each_mut().map(|codes| names.number(codes.take()));
                Some(self.add(Profile { miss, has_args, strings, names }))
            }
            code => u32::try_from(code - OLD).ok(),
        };
        // A profile that is not there: only in a file that no writer wrote.
        let Some(number) = number else { return Profile::default() };
        self.learn(pid, parent, number);
        self.profiles.get(number as usize).copied().unwrap_or_default()
    }
}

/// The columns of profiles that are being read.
pub(crate) struct ProfileColumns<'a> {
    profile: Values<'a>,
    miss: Values<'a>,
    args: Values<'a>,
    strings: [Values<'a>; STRINGS.len()],
    names: [Values<'a>; NAMES.len()],
}

impl<'a> ProfileColumns<'a> {
    pub(crate) fn new(columns: &'a ColumnReader) -> Self {
        Self {
            profile: columns.numbers(Column::DetailsProfile),
            miss: columns.numbers(Column::DetailsMiss),
            args: columns.numbers(Column::DetailsArgs),
            strings: STRINGS.map(|column| columns.numbers(column)),
            names: NAMES.map(|column| columns.numbers(column)),
        }
    }
}
