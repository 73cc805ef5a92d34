//! The kernel's types (BTF), reduced to those that the BPF program reads.
//!
//! `/sys/kernel/btf/vmlinux` describes 80,000 types in 5 MiB. To relocate a program, aya allocates
//! each of them, and searches all of them by name for each type that the program reads: half of the
//! time that a recording took to start. It receives a few hundred types instead.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use aya::{Btf, BtfError, Endianness};

use super::sys::ConstantFile;

/// File in which the kernel describes its types.
const PATH: &str = "/sys/kernel/btf/vmlinux";

/// Bytes of `struct btf_type`, with which every type begins: name, kind and number of entries, size
/// or type.
const HEAD: usize = 12;

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
}

impl KernelTypes {
    /// Opens the description of the running kernel's types.
    pub(super) fn open() -> Result<Self, BtfError> {
        let file = ConstantFile::open(Path::new(PATH));
        let file = file.map_err(|error| BtfError::FileError { path: PATH.into(), error })?;
        Ok(Self { file })
    }

    /// Returns the structures, unions, enumerations and type definitions whose names occur in
    /// `object`, a compiled BPF program, and the types of their fields. Pointers point to `void`.
    pub(super) fn reduce_to(&self, object: &[u8]) -> Result<Btf, BtfError> {
        let names = object.split(|byte| *byte == 0).map(without_flavor).collect();
        let reduced = Types::parse(&self.file).and_then(|types| types.reduce_to(&names));
        Btf::parse(&reduced.ok_or(BtfError::InvalidTypeInfo)?, Endianness::default())
    }

    /// Returns the id of a function; `None` if the kernel has no function of that name.
    pub(super) fn function(&self, name: &str) -> Option<u32> {
        Types::parse(&self.file)?.function(name.as_bytes())
    }
}

/// The sections of a BTF file.
struct Types<'a> {
    types: &'a [u8],
    names: &'a [u8],
    /// Position of each type in `types`. Type 0 is `void` and not in the file.
    positions: Vec<usize>,
}

impl<'a> Types<'a> {
    fn parse(file: &'a [u8]) -> Option<Self> {
        let sections = file.get(word(file, 4)? as usize..)?;
        let section = |at| sections.get(word(file, at)? as usize..)?.get(..word(file, at + 4)? as usize);
        let mut this = Self { types: section(8)?, names: section(16)?, positions: vec![0] };
        let mut at = 0;
        while at < this.types.len() {
            this.positions.push(at);
            let (entries, bytes) = this.entries(at)?;
            at += HEAD + entries * bytes;
        }
        Some(this)
    }

    /// Returns the kind of the type at a position.
    fn kind(&self, at: usize) -> Option<u32> {
        Some(word(self.types, at + 4)? >> 24 & 0x1f)
    }

    /// Returns the number of entries that follow the head of the type at a position, and the bytes
    /// of one entry.
    fn entries(&self, at: usize) -> Option<(usize, usize)> {
        let several = (word(self.types, at + 4)? & 0xffff) as usize;
        Some(match self.kind(at)? {
            INT | VARIABLE | DECLARATION_TAG => (1, 4),
            ARRAY => (1, 12),
            STRUCT | UNION | SECTION | ENUM64 => (several, 12),
            ENUM | PROTOTYPE => (several, 8),
            _ => (0, 0),
        })
    }

    /// Returns a name by its position in the file's names.
    fn name(&self, at: u32) -> Option<&'a [u8]> {
        self.names.get(at as usize..)?.split(|byte| *byte == 0).next()
    }

    fn function(&self, name: &[u8]) -> Option<u32> {
        let is_named = |&at: &usize| {
            self.kind(at) == Some(FUNCTION) && word(self.types, at).and_then(|at| self.name(at)) == Some(name)
        };
        let at = self.positions.iter().skip(1).position(is_named)?;
        Some(at as u32 + 1)
    }

    fn reduce_to(&self, names: &HashSet<&[u8]>) -> Option<Vec<u8>> {
        let mut reduced =
            Reduced { ids: HashMap::new(), order: Vec::new(), types: Vec::new(), names: vec![0] };
        for (id, &at) in self.positions.iter().enumerate().skip(1) {
            let name = match self.kind(at)? {
                STRUCT | UNION | ENUM | ENUM64 | TYPEDEF => self.name(word(self.types, at)?)?,
                _ => continue,
            };
            if names.contains(without_flavor(name)) {
                reduced.id(id as u32);
            }
        }
        let mut next = 0;
        while let Some(&id) = reduced.order.get(next) {
            reduced.add(self, *self.positions.get(id as usize)?)?;
            next += 1;
        }
        Some(file(&reduced.types, &reduced.names))
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
    /// Returns the new id of a type and selects the type.
    fn id(&mut self, id: u32) -> u32 {
        if id == 0 {
            return 0;
        }
        *self.ids.entry(id).or_insert_with(|| {
            self.order.push(id);
            self.order.len() as u32
        })
    }

    /// Appends the type at a position, and selects the types of its fields.
    fn add(&mut self, from: &Types<'_>, at: usize) -> Option<()> {
        let (entries, bytes) = from.entries(at)?;
        let kind = from.kind(at)?;
        let start = self.types.len();
        self.types.extend(from.types.get(at..at + HEAD + entries * bytes)?);
        self.rename(from, start)?;
        match kind {
            POINTER => self.set(start + 8, 0),
            TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => self.retype(start + 8)?,
            ARRAY => {
                self.retype(start + HEAD)?;
                self.set(start + HEAD + 4, 0);
            }
            _ => {}
        }
        for entry in (start + HEAD..).step_by(bytes.max(1)).take(entries) {
            match kind {
                STRUCT | UNION => {
                    self.rename(from, entry)?;
                    self.retype(entry + 4)?;
                }
                ENUM | ENUM64 => self.rename(from, entry)?,
                _ => {}
            }
        }
        Some(())
    }

    fn set(&mut self, at: usize, word: u32) {
        self.types[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }

    fn retype(&mut self, at: usize) -> Option<()> {
        let id = word(&self.types, at)?;
        let id = self.id(id);
        self.set(at, id);
        Some(())
    }

    fn rename(&mut self, from: &Types<'_>, at: usize) -> Option<()> {
        let name = from.name(word(&self.types, at)?)?;
        let new = if name.is_empty() { 0 } else { self.names.len() as u32 };
        if new != 0 {
            self.names.extend([name, b"\0"].concat());
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

/// Returns a name without `___` and what follows, which tells different kernels' forms of a type
/// apart.
fn without_flavor(name: &[u8]) -> &[u8] {
    let flavor = name.windows(3).position(|bytes| bytes == b"___");
    &name[..flavor.unwrap_or(name.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends a type with its entries.
    fn add(types: &mut Vec<u8>, words: &[u32]) {
        types.extend(words.iter().copied().flat_map(u32::to_ne_bytes));
    }

    /// Types 1 to 4: an integer, a function, and two structures, the second of which has a field of
    /// the first structure's type and a pointer to itself (type 5).
    fn example() -> Vec<u8> {
        let names = b"\0int\0inner\0outer\0call\0a\0b\0";
        let [int, inner, outer, call, a, b] = [1, 5, 11, 17, 22, 24];
        let mut types = Vec::new();
        add(&mut types, &[int, INT << 24, 4, 0]);
        add(&mut types, &[call, FUNCTION << 24, 0]);
        add(&mut types, &[inner, STRUCT << 24 | 1, 4, a, 1, 0]);
        add(&mut types, &[outer, STRUCT << 24 | 2, 16, a, 3, 0, b, 5, 64]);
        add(&mut types, &[0, POINTER << 24, 4]);
        file(&types, names)
    }

    #[test]
    fn a_structure_keeps_its_fields_types_but_no_pointers_target() {
        let example = example();
        let types = Types::parse(&example).unwrap();
        let reduced = types.reduce_to(&HashSet::from([&b"outer"[..], b"call"])).unwrap();
        let reduced = Types::parse(&reduced).unwrap();
        let name = |id: usize| reduced.name(word(reduced.types, reduced.positions[id]).unwrap()).unwrap();
        let kinds: Vec<_> = reduced.positions[1..].iter().map(|&at| reduced.kind(at).unwrap()).collect();
        assert_eq!(kinds, [STRUCT, STRUCT, POINTER, INT]);
        assert_eq!([1, 2, 3, 4].map(name), [&b"outer"[..], b"inner", b"", b"int"]);
        assert_eq!(word(reduced.types, reduced.positions[3] + 8), Some(0));
    }

    #[test]
    fn a_function_is_found_by_its_name() {
        let example = example();
        let types = Types::parse(&example).unwrap();
        assert_eq!([&b"call"[..], b"outer", b""].map(|name| types.function(name)), [Some(2), None, None]);
    }

    #[test]
    fn cut_types_are_refused() {
        let example = example();
        for len in 0..example.len() {
            assert!(Types::parse(&example[..len]).is_none(), "{len}");
        }
    }
}
