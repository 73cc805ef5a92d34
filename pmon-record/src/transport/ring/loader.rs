//! Loads the maps and programs of the compiled BPF object.
//!
//! aya's own loader reads and parses all of the kernel's types at each start, even if it receives
//! others. That takes 20 ms of CPU time, as much as everything else that the ring needs. Therefore
//! only parts of aya are used here.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use aya::maps::{Map, MapData};
use aya_obj::generated::bpf_prog_type;
use aya_obj::{EbpfSectionKind, ProgramSection};

use super::kernel_types::KernelTypes;
use super::refusal::RingError;
use super::sys;

/// Maximum bytes of the verifier's log. Before 6.4, the kernel accepts less than 16 MiB.
const MAX_LOG: usize = 8 << 20;

/// An object whose maps exist, and whose programs can be loaded.
pub(super) struct Object {
    object: aya_obj::Object,
    /// The object's types, which the kernel needs to check callbacks.
    btf: Option<OwnedFd>,
    maps: HashMap<String, MapData>,
}

impl Object {
    /// Creates the maps of a compiled object, and relocates its programs to the kernel's `types`.
    ///
    /// `constants` are values of the object's constants by their names. `ring_size` (bytes) and
    /// `slabs` replace the compiled numbers of entries of the maps `RING` and `TREE`.
    pub(super) fn load(
        bytes: &[u8],
        constants: &[(&str, Vec<u8>)],
        (ring_size, slabs): (u32, u32),
        types: &KernelTypes,
    ) -> Result<Self, RingError> {
        let mut object = aya_obj::Object::parse(bytes).map_err(RingError::of_object)?;
        let constants = constants.iter().map(|(name, value)| (*name, (&value[..], true)));
        object.patch_map_data(constants.collect()).map_err(RingError::of_object)?;
        let mut btf = None;
        if let Some(features) = aya::features().btf()
            && let Some(own) = object.fixup_and_sanitize_btf(features).map_err(RingError::of_object)?
        {
            let loaded = sys::load_btf(&own.to_bytes());
            btf = Some(loaded.map_err(|error| RingError::of_call("BPF_BTF_LOAD", error))?);
        }
        let reduced = types.reduce_to(bytes).map_err(RingError::of_types)?;
        object.relocate_btf(&reduced).map_err(RingError::of_object)?;

        let mut maps = HashMap::new();
        let mut compiled: Vec<_> = object.maps.iter_mut().collect();
        // The ring first: if the kernel rejects this map, it may be too old.
        compiled.sort_by_key(|(name, _)| *name != "RING");
        for (name, map) in compiled {
            match name.as_str() {
                "RING" => map.set_max_entries(ring_size),
                "TREE" => map.set_max_entries(slabs),
                _ => {}
            }
            let data = MapData::create(map.clone(), name, btf.as_ref().map(OwnedFd::as_fd));
            let data = data.map_err(|error| RingError::of_map(error, ring_size))?;
            if map.section_kind() == EbpfSectionKind::Rodata {
                sys::set_constants(data.fd().as_fd(), map.data())
                    .map_err(|error| RingError::of_call("BPF_MAP_UPDATE_ELEM", error))?;
            }
            maps.insert(name.clone(), data);
        }
        let sections = object.functions.keys().map(|(section, _)| *section).collect();
        let maps_of_object = object.maps.clone();
        let created = maps
            .iter()
            .map(|(name, data)| (name.as_str(), data.fd().as_fd().as_raw_fd(), &maps_of_object[name]));
        object.relocate_maps(created, &sections).map_err(RingError::of_object)?;
        object.relocate_calls(&sections).map_err(RingError::of_object)?;
        Ok(Self { object, btf, maps })
    }

    /// Takes a map by its name.
    pub(super) fn take_map(&mut self, name: &'static str) -> Result<Map, RingError> {
        let data = self.maps.remove(name).ok_or(RingError::Incomplete(name))?;
        Ok(Map::from_map_data(data)?)
    }

    /// Loads a program. `function` is the id of the kernel function that an `fentry` program
    /// traces.
    pub(super) fn load_program(&self, name: &'static str, function: u32) -> Result<OwnedFd, RingError> {
        let program = self.object.programs.get(name).ok_or(RingError::Incomplete(name))?;
        let code = self.object.functions.get(&program.function_key());
        let code = code.ok_or(RingError::Incomplete(name))?;
        let kind = match program.section {
            ProgramSection::SocketFilter => bpf_prog_type::BPF_PROG_TYPE_SOCKET_FILTER,
            ProgramSection::RawTracePoint => bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT,
            _ => bpf_prog_type::BPF_PROG_TYPE_TRACING,
        };
        let load = |log: &mut [u8]| {
            let btf = self.btf.as_ref().map(OwnedFd::as_fd);
            sys::load_program(kind, &program.license, code, btf, function, log)
        };
        load(&mut []).or_else(|_| {
            // Only a failure is worth the time that a log takes.
            let mut log = vec![0; MAX_LOG];
            load(&mut log).map_err(|error| {
                let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
                RingError::of_program(error, &String::from_utf8_lossy(text))
            })
        })
    }
}
