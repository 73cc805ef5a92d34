//! The kernel's types (BTF), reduced to those that the BPF program reads.
//!
//! `/sys/kernel/btf/vmlinux` describes 80,000 types in 5 MiB. To relocate a program, aya allocates
//! each of them, and searches all of them by name for each type that the program reads: half of the
//! time that a recording took to start. It receives a few hundred types instead.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

use aya::{Btf, BtfError, Endianness};

use super::sys::ConstantFile;

/// File in which the kernel describes its types.
const PATH: &str = "/sys/kernel/btf/vmlinux";

/// Bytes of `struct btf_type`, with which every type begins: name, kind and number of entries, size
/// or type.
const HEAD: usize = 12;

/// Bytes of a typical type, for the first guess at the number of types.
const TYPICAL: usize = 32;

// Kinds of types (`linux/btf.h`).
const INT: u32 = 1;
const POINTER: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNCTION: u32 = 12;
const PROTOTYPE: u32 = 13;
const VARIABLE: u32 = 14;
const SECTION: u32 = 15;
const DECLARATION_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// The types of the running kernel.
pub(super) struct KernelTypes {
    file: ConstantFile,
    types: Range<usize>,
    names: Range<usize>,
    /// Position of each type in `types`, from type 1 on; type 0 is `void`.
    positions: Vec<u32>,
}

impl KernelTypes {
    /// Reads the description of the running kernel's types.
    pub(super) fn read() -> Result<Self, BtfError> {
        let file = ConstantFile::open(Path::new(PATH));
        let file = file.map_err(|error| BtfError::FileError { path: PATH.into(), error })?;
        Self::parse(file).ok_or(BtfError::InvalidTypeInfo)
    }

    fn parse(file: ConstantFile) -> Option<Self> {
        let body = word(&file, 4)? as usize;
        let section = |at| {
            let start = body + word(&file, at)? as usize;
            let section = start..start + word(&file, at + 4)? as usize;
            file.get(section.clone()).map(|_| section)
        };
        let (types, names) = (section(8)?, section(16)?);
        let mut this = Self { file, types, names, positions: Vec::new() };
        this.positions.reserve(this.types.len() / TYPICAL);
        let mut at = 0;
        while at < this.types.len() {
            this.positions.push(at as u32);
            let (_, entries, bytes) = this.head(at)?;
            at += HEAD + entries * bytes;
        }
        (at == this.types.len()).then_some(this)
    }

    /// Returns the structures, unions and type definitions whose names occur in
    /// `object`, a compiled BPF program, with the fields whose names occur there, and the types of
    /// these fields. Pointers point to `void`.
    pub(super) fn reduce_to(&self, object: &[u8]) -> Result<Btf, BtfError> {
        let strings = object.split(|byte| *byte == 0).filter(|string| !string.is_empty());
        let names = strings.map(without_flavor).collect();
        let reduced = self.reduce(&names).ok_or(BtfError::InvalidTypeInfo)?;
        Btf::parse(&reduced, Endianness::default())
    }

    fn reduce(&self, names: &HashSet<&[u8]>) -> Option<Vec<u8>> {
        let mut reduced =
            Reduced { ids: HashMap::new(), order: Vec::new(), types: Vec::new(), names: vec![0] };
        for (index, &at) in self.positions.iter().enumerate() {
            let at = at as usize;
            if matches!(self.head(at)?.0, STRUCT | UNION | TYPEDEF)
                && names.contains(self.name(word(self.types(), at)?)?)
            {
                reduced.id(index as u32 + 1);
            }
        }
        let mut next = 0;
        while let Some(&id) = reduced.order.get(next) {
            reduced.add(self, *self.positions.get(id as usize - 1)? as usize, names)?;
            next += 1;
        }
        Some(file(&reduced.types, &reduced.names))
    }

    /// Returns the id of a function; `None` if the kernel has no function of that name.
    pub(super) fn function(&self, name: &str) -> Option<u32> {
        let is_it = |&at: &u32| {
            self.head(at as usize).is_some_and(|(kind, ..)| kind == FUNCTION)
                && word(self.types(), at as usize).and_then(|at| self.name(at)) == Some(name.as_bytes())
        };
        self.positions.iter().position(is_it).map(|index| index as u32 + 1)
    }

    fn types(&self) -> &[u8] {
        &self.file[self.types.clone()]
    }

    /// Returns the kind of the type at a position, the number of entries that follow its head, and
    /// the bytes of one entry.
    fn head(&self, at: usize) -> Option<(u32, usize, usize)> {
        let info = word(self.types(), at + 4)?;
        let (kind, several) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let (entries, bytes) = match kind {
            INT | VARIABLE | DECLARATION_TAG => (1, 4),
            ARRAY => (1, 12),
            STRUCT | UNION | SECTION | ENUM64 => (several, 12),
            ENUM | PROTOTYPE => (several, 8),
            _ => (0, 0),
        };
        Some((kind, entries, bytes))
    }

    /// Returns a name by its position among the names.
    fn name(&self, at: u32) -> Option<&[u8]> {
        self.file[self.names.clone()].get(at as usize..)?.split(|byte| *byte == 0).next()
    }
}

/// The selected types, with ids and names of their own.
struct Reduced {
    /// New ids by the kernel's.
    ids: HashMap<u32, u32>,
    /// The kernel's ids in the order of the new ones.
    order: Vec<u32>,
    types: Vec<u8>,
    names: Vec<u8>,
}

impl Reduced {
    /// Returns the new id of a type, and selects the type.
    fn id(&mut self, id: u32) -> u32 {
        if id == 0 {
            return 0;
        }
        *self.ids.entry(id).or_insert_with(|| {
            self.order.push(id);
            self.order.len() as u32
        })
    }

    /// Appends the type at a position, with the entries that have a name of `names` or none, and
    /// selects their types.
    fn add(&mut self, from: &KernelTypes, at: usize, names: &HashSet<&[u8]>) -> Option<()> {
        let (kind, entries, bytes) = from.head(at)?;
        let start = self.types.len();
        self.types.extend(from.types().get(at..at + HEAD)?);
        self.rename(from, start)?;
        match kind {
            POINTER => self.set(start + 8, 0),
            TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => self.retype(start + 8)?,
            _ => {}
        }
        let mut excluded = 0;
        for index in 0..entries {
            let entry = from.types().get(at + HEAD + index * bytes..)?.get(..bytes)?;
            let at = self.types.len();
            match kind {
                STRUCT | UNION | ENUM | ENUM64 => {
                    let name = from.name(word(entry, 0)?)?;
                    if !name.is_empty() && !names.contains(name) {
                        excluded += 1;
                        continue;
                    }
                    self.types.extend(entry);
                    self.rename(from, at)?;
                    if matches!(kind, STRUCT | UNION) {
                        self.retype(at + 4)?;
                    }
                }
                ARRAY => {
                    self.types.extend(entry);
                    self.retype(at)?;
                    // The type of an index has no meaning.
                    self.set(at + 4, 0);
                }
                _ => self.types.extend(entry),
            }
        }
        self.set(start + 4, word(&self.types, start + 4)? - excluded);
        Some(())
    }

    fn set(&mut self, at: usize, word: u32) {
        self.types[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }

    /// Replaces the kernel's id of a type.
    fn retype(&mut self, at: usize) -> Option<()> {
        let id = word(&self.types, at)?;
        let id = self.id(id);
        self.set(at, id);
        Some(())
    }

    /// Replaces the position of a name in the kernel's names.
    fn rename(&mut self, from: &KernelTypes, at: usize) -> Option<()> {
        let name = from.name(word(&self.types, at)?)?;
        let new = if name.is_empty() { 0 } else { self.names.len() as u32 };
        if new != 0 {
            self.names.extend(name);
            self.names.push(0);
        }
        self.set(at, new);
        Some(())
    }
}

/// Returns a BTF file (`struct btf_header`) of types and names.
fn file(types: &[u8], names: &[u8]) -> Vec<u8> {
    let (types_len, names_len) = (types.len() as u32, names.len() as u32);
    let numbers = [24, 0, types_len, types_len, names_len].map(u32::to_ne_bytes).concat();
    [&0xeb9f_u16.to_ne_bytes()[..], &[1, 0], &numbers, types, names].concat()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Returns a name without `___` and what follows, which distinguishes the forms that a type has in
/// different kernels.
fn without_flavor(name: &[u8]) -> &[u8] {
    let flavor = name.windows(3).position(|bytes| bytes == b"___");
    &name[..flavor.unwrap_or(name.len())]
}

#[cfg(test)]
mod tests;
