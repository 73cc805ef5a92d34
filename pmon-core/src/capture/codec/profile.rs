//! Profiles: the fields of details that processes share, stored once and referred to by number.
//!
//! Most details differ from earlier ones in their arguments only.

use std::collections::HashMap;

use super::column::{Column, ColumnValues, ColumnWriter};
use super::strings::{Interner, StringReader};
use crate::capture::records::ContainerNames;

/// Code of the predicted profile.
const EXPECTED: u64 = 0;
/// Code of a new profile, whose fields follow.
const NEW: u64 = 1;
/// Code of profile number 0; the number is added.
const OLD: u64 = 2;

/// Number of processes whose last profile is remembered, by process id modulo this number.
const PROCESSES: usize = 4096;

/// Maximum bytes of all distinct names of containers in a block; further ones are left out.
const MAX_CONTAINER_BYTES: usize = 64 << 10;

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
    /// Number of the container's names.
    container: Option<u32>,
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
    /// The names of containers.
    containers: Vec<Vec<u8>>,
    container_numbers: HashMap<Vec<u8>, u32>,
    container_bytes: usize,
}

impl DetailsProfiles {
    pub(crate) fn reset(&mut self) {
        self.profiles.clear();
        self.numbers.clear();
        self.next.clear();
        self.families.clear();
        self.containers.clear();
        self.container_numbers.clear();
        self.container_bytes = 0;
    }

    /// Returns the names of the container of a profile.
    pub(crate) fn container(&self, profile: &DetailsProfile) -> Option<&[u8]> {
        self.containers.get(profile.container? as usize).map(Vec::as_slice)
    }

    /// Returns whether a block has room for further names of this length.
    fn has_room(&self, len: usize) -> bool {
        len <= ContainerNames::MAX_BYTES && self.container_bytes + len <= MAX_CONTAINER_BYTES
    }

    fn add_container(&mut self, names: Vec<u8>) -> u32 {
        self.container_bytes += names.len();
        self.containers.push(names);
        self.containers.len() as u32 - 1
    }

    /// Returns the number of a container's names; `None` if the block has no room for them.
    fn container_number(&mut self, names: &[u8]) -> Option<u32> {
        if let Some(&number) = self.container_numbers.get(names) {
            return Some(number);
        }
        if !self.has_room(names.len()) {
            return None;
        }
        let number = self.add_container(names.to_vec());
        self.container_numbers.insert(names.to_vec(), number);
        Some(number)
    }

    /// Reads the names of a new profile's container.
    fn read_container(&mut self, from: &mut ColumnValues<'_>) -> Option<u32> {
        let len = usize::try_from(from.take(Column::DetailsContainer).checked_sub(1)?).ok()?;
        // Only a forged file has more.
        if !self.has_room(len) {
            return None;
        }
        let names = (0..len).map(|_| from.take(Column::ContainerByte) as u8).collect();
        Some(self.add_container(names))
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
        (miss, has_args, container): (u64, bool, Option<&[u8]>),
        (strings, names): (Parts<'_, { STRINGS.len() }>, Parts<'_, { NAMES.len() }>),
        out: &mut ColumnWriter,
        (strings_in, names_in): (&mut Interner, &mut Interner),
    ) -> DetailsProfile {
        let codes = strings.map(|string| strings_in.code(string));
        let name_codes = names.map(|name| names_in.code(name));
        let (strings, names) = (codes.map(|(_, number)| number), name_codes.map(|(_, number)| number));
        let container = container.and_then(|names| self.container_number(names));
        let profile = DetailsProfile { miss, has_args, strings, names, container };
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
            let names = self.container(&profile);
            out.put(Column::DetailsContainer, names.map_or(0, |names| 1 + names.len() as u64));
            names.into_iter().flatten().for_each(|&byte| out.put(Column::ContainerByte, byte.into()));
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
                let container = self.read_container(from);
                Some(self.add(DetailsProfile { miss, has_args, strings, names, container }))
            }
            code => u32::try_from(code - OLD).ok(),
        };
        // Only a forged file refers to a profile that does not exist.
        let Some(number) = number else { return DetailsProfile::default() };
        self.learn(pid, parent, number);
        self.profiles.get(number as usize).copied().unwrap_or_default()
    }
}
