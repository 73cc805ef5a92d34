//! The kernel's types (BTF), reduced to those that the BPF program reads.
//!
//! `/sys/kernel/btf/vmlinux` describes 80,000 types in 5 MiB. To relocate a program, aya allocates
//! each of them, and searches all of them by name for each type that the program reads: half of the
//! time that a recording took to start. It receives a few hundred types instead.

use std::collections::{HashMap, HashSet};
use std::mem::offset_of;
use std::ops::Range;

use aya::{Btf, BtfError, Endianness};
use aya_obj::generated::{
    BTF_KIND_ARRAY, BTF_KIND_CONST, BTF_KIND_DATASEC, BTF_KIND_DECL_TAG, BTF_KIND_ENUM, BTF_KIND_ENUM64,
    BTF_KIND_FUNC, BTF_KIND_FUNC_PROTO, BTF_KIND_INT, BTF_KIND_PTR, BTF_KIND_RESTRICT, BTF_KIND_STRUCT,
    BTF_KIND_TYPE_TAG, BTF_KIND_TYPEDEF, BTF_KIND_UNION, BTF_KIND_VAR, BTF_KIND_VOLATILE, btf_header,
    btf_type,
};
use pmon_core::wire::u32_at;

use super::sys::ConstantFile;

/// File in which the kernel describes its types.
const PATH: &str = "/sys/kernel/btf/vmlinux";

/// Bytes with which every type begins: name, kind and number of entries, size or type.
const HEAD: usize = size_of::<btf_type>();

/// Bytes of a typical type, for the first guess at the number of types.
const TYPICAL: usize = 32;

/// The types of the running kernel.
pub(super) struct KernelTypes {
    file: ConstantFile,
    /// Position of each type in the file, from type 1 on; type 0 is `void`.
    positions: Vec<u32>,
    /// Positions of the names in the file.
    names: Range<usize>,
}

impl KernelTypes {
    /// Reads the description of the running kernel's types.
    pub(super) fn read() -> Result<Self, BtfError> {
        let file = ConstantFile::open(PATH);
        let file = file.map_err(|error| BtfError::FileError { path: PATH.into(), error })?;
        Self::parse(file).ok_or(BtfError::InvalidTypeInfo)
    }

    fn parse(file: ConstantFile) -> Option<Self> {
        let header_len = u32_at(&file, offset_of!(btf_header, hdr_len)) as usize;
        // The offset of a section is followed by its length.
        let section = |at| {
            let start = header_len + u32_at(&file, at) as usize;
            let section = start..start + u32_at(&file, at + 4) as usize;
            (file.len() >= size_of::<btf_header>().max(section.end)).then_some(section)
        };
        let types = section(offset_of!(btf_header, type_off))?;
        let names = section(offset_of!(btf_header, str_off))?;
        let mut this = Self { file, positions: Vec::with_capacity(types.len() / TYPICAL), names };
        let mut at = types.start;
        while at < types.end {
            this.positions.push(at as u32);
            let (_, entries, bytes) = this.head(at);
            at += HEAD + entries * bytes;
        }
        (at == types.end).then_some(this)
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
            let (kind, ..) = self.head(at as usize);
            if matches!(kind, BTF_KIND_STRUCT | BTF_KIND_UNION | BTF_KIND_TYPEDEF)
                && names.contains(self.name_at(at as usize))
            {
                reduced.id(index as u32 + 1);
            }
        }
        let mut next = 0;
        while let Some(&id) = reduced.order.get(next) {
            reduced.add(self, *self.positions.get(id as usize - 1)? as usize, names);
            next += 1;
        }
        Some(file(&reduced.types, &reduced.names))
    }

    /// Returns the id of a function; `None` if the kernel has no function of that name.
    pub(super) fn function(&self, name: &str) -> Option<u32> {
        let is_it = |&at: &u32| {
            self.head(at as usize).0 == BTF_KIND_FUNC && self.name_at(at as usize) == name.as_bytes()
        };
        self.positions.iter().position(is_it).map(|index| index as u32 + 1)
    }

    /// Returns the kind of the type at a position, the number of entries that follow its head, and
    /// the bytes of one entry.
    fn head(&self, at: usize) -> (u32, usize, usize) {
        let info = u32_at(&self.file, at + offset_of!(btf_type, info));
        let (kind, several) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let (entries, bytes) = match kind {
            BTF_KIND_INT | BTF_KIND_VAR | BTF_KIND_DECL_TAG => (1, 4),
            BTF_KIND_ARRAY => (1, 12),
            BTF_KIND_STRUCT | BTF_KIND_UNION | BTF_KIND_DATASEC | BTF_KIND_ENUM64 => (several, 12),
            BTF_KIND_ENUM | BTF_KIND_FUNC_PROTO => (several, 8),
            _ => (0, 0),
        };
        (kind, entries, bytes)
    }

    /// Returns the name of the type or entry at a position.
    fn name_at(&self, at: usize) -> &[u8] {
        self.name(u32_at(&self.file, at))
    }

    /// Returns a name by its position among the names.
    fn name(&self, at: u32) -> &[u8] {
        let rest = self.file[self.names.clone()].get(at as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// The selected types, with ids and names of their own.
struct Reduced {
    /// New ids by the kernel's.
    ids: HashMap<u32, u32>,
    /// The kernel's ids in the order of the new ones.
    order: Vec<u32>,
    types: Vec<u32>,
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

    /// Adds a name, and returns its position.
    fn add_name(&mut self, name: &[u8]) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.names.len() as u32;
        self.names.extend(name);
        self.names.push(0);
        at
    }

    /// Appends the type at a position, with the entries that have a name of `names` or none, and
    /// selects their types.
    fn add(&mut self, from: &KernelTypes, at: usize, names: &HashSet<&[u8]>) {
        let (kind, count, bytes) = from.head(at);
        let words = (at..at + HEAD + count * bytes).step_by(4).map(|at| u32_at(&from.file, at));
        let mut head: Vec<u32> = words.collect();
        let mut entries = head.split_off(HEAD / 4);
        head[0] = self.add_name(from.name(head[0]));
        match kind {
            BTF_KIND_PTR => head[2] = 0,
            BTF_KIND_TYPEDEF | BTF_KIND_VOLATILE | BTF_KIND_CONST | BTF_KIND_RESTRICT | BTF_KIND_TYPE_TAG => {
                head[2] = self.id(head[2]);
            }
            BTF_KIND_ARRAY => {
                entries[0] = self.id(entries[0]);
                // The type of an index has no meaning.
                entries[1] = 0;
            }
            BTF_KIND_STRUCT | BTF_KIND_UNION | BTF_KIND_ENUM | BTF_KIND_ENUM64 => {
                let mut kept = Vec::new();
                for entry in entries.chunks_exact_mut(bytes / 4) {
                    let name = from.name(entry[0]);
                    if !name.is_empty() && !names.contains(name) {
                        head[1] -= 1;
                        continue;
                    }
                    entry[0] = self.add_name(name);
                    if matches!(kind, BTF_KIND_STRUCT | BTF_KIND_UNION) {
                        entry[1] = self.id(entry[1]);
                    }
                    kept.extend_from_slice(entry);
                }
                entries = kept;
            }
            _ => {}
        }
        self.types.extend(head.into_iter().chain(entries));
    }
}

/// Returns a BTF file (`struct btf_header`) of types and names.
fn file(types: &[u32], names: &[u8]) -> Vec<u8> {
    let (types_len, names_len) = (size_of_val(types) as u32, names.len() as u32);
    let header = [size_of::<btf_header>() as u32, 0, types_len, types_len, names_len];
    let numbers: Vec<u8> = header.iter().chain(types).copied().flat_map(u32::to_ne_bytes).collect();
    [&0xeb9f_u16.to_ne_bytes()[..], &[1, 0], &numbers, names].concat()
}

/// Returns a name without `___` and what follows, which distinguishes the forms that a type has in
/// different kernels.
fn without_flavor(name: &[u8]) -> &[u8] {
    let flavor = name.windows(3).position(|bytes| bytes == b"___");
    &name[..flavor.unwrap_or(name.len())]
}

#[cfg(test)]
mod tests;
