//! The description of kept descriptors: what the entries of the ring mean, and which objects belong
//! together. It travels with the descriptors as a sealed file in memory, one `KEY VALUE` per line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};

use pmon_core::capture::{SignalTracing, TransportInfo};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

use super::{HandoverError, Role};
use crate::clock::Clock;
use crate::options::RecordOptions;
use crate::transport::ring;

/// Version of the handover: the roles of the descriptors and the lines of the description.
const VERSION: &str = "2";
/// Maximum bytes of a description.
const MAX_BYTES: u64 = 16 << 10;

/// Lines that must be equal for a recorder to continue.
const LAYOUT: [&str; 6] = ["handover", "program", "requested", "details", "ring", "args"];

/// A description of kept descriptors, as values by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State(BTreeMap<String, String>);

impl State {
    /// Describes the descriptors of a new subscription with these identities.
    pub(super) fn new(
        options: &RecordOptions,
        (transport, signals): (&TransportInfo, &SignalTracing),
        identities: &[(Role, String)],
    ) -> Self {
        let layout = LAYOUT.iter().map(|key| (*key).to_owned()).zip(layout(options));
        let no_signals = match signals {
            SignalTracing::Off { why } => why.replace('\n', " "),
            _ => String::new(),
        };
        let transport = [
            ("transport".to_owned(), transport.name.clone()),
            ("why".to_owned(), transport.why.replace('\n', " ")),
            ("no_signals".to_owned(), no_signals),
            ("created".to_owned(), Clock::new().mono().0.to_string()),
        ];
        let identities = identities.iter().map(|(role, identity)| (role.name().to_owned(), identity.clone()));
        Self(layout.chain(transport).chain(identities).collect())
    }

    /// Writes the description into a file in memory that no process can change.
    ///
    /// # Errors
    /// As `memfd_create(2)` and `write(2)`.
    pub(super) fn to_file(&self) -> io::Result<OwnedFd> {
        let text: String = self.0.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
        let fd = memfd_create("pmon.state", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = File::from(fd);
        file.write_all(text.as_bytes())?;
        fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
        Ok(file.into())
    }

    /// Reads a description.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn from_file(fd: BorrowedFd<'_>) -> Result<Self, String> {
        let seals = fcntl_get_seals(fd).map_err(|error| format!("is not a file in memory: {error}"))?;
        if !seals.contains(SealFlags::WRITE | SealFlags::SHRINK) {
            return Err("can be changed by other processes".into());
        }
        let unreadable = |error: io::Error| format!("cannot be read: {error}");
        let mut file = File::from(fd.try_clone_to_owned().map_err(unreadable)?);
        file.rewind().map_err(unreadable)?;
        let mut text = String::new();
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(format!("has more than {MAX_BYTES} bytes"));
        }
        Self::parse(&text).ok_or_else(|| "is not in lines of a key and a value".into())
    }

    fn parse(text: &str) -> Option<Self> {
        let line = |line: &str| line.split_once(' ').map(|(key, value)| (key.to_owned(), value.to_owned()));
        text.lines().map(line).collect::<Option<_>>().map(Self)
    }

    /// Checks that a recorder with these options gives the entries of the ring the same meaning.
    ///
    /// # Errors
    /// The first difference.
    pub(super) fn check(&self, options: &RecordOptions) -> Result<(), HandoverError> {
        for (key, wanted) in LAYOUT.into_iter().zip(layout(options)) {
            let kept = self.get(key);
            if kept != wanted {
                let (what, kept) = (description(key).to_owned(), kept.to_owned());
                return Err(HandoverError::Incompatible { what, kept, wanted });
            }
        }
        Ok(())
    }

    /// Returns the transport of the subscription.
    pub(super) fn transport(&self) -> TransportInfo {
        TransportInfo { name: self.get("transport").into(), why: self.get("why").into() }
    }

    /// Returns why the senders of signals are not observed; empty if they are.
    pub(super) fn no_signals(&self) -> &str {
        self.get("no_signals")
    }

    /// Returns the description of the object with this role; `None` if there was none.
    pub(super) fn identity(&self, role: Role) -> Option<&str> {
        self.0.get(role.name()).map(String::as_str)
    }

    /// Returns the time of the subscription in ns.
    pub(super) fn created(&self) -> u64 {
        self.get("created").parse().unwrap_or(0)
    }

    fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }
}

/// Returns the values of the lines `LAYOUT` for a recorder with these options.
fn layout(options: &RecordOptions) -> [String; LAYOUT.len()] {
    [
        VERSION.into(),
        format!("{:016x}", ring::object_id()),
        format!("{:?}", options.transport),
        options.details.to_string(),
        ring::size(options.ring).unwrap_or(0).to_string(),
        options.args_read().to_string(),
    ]
}

/// Describes a line of `LAYOUT` for an error.
fn description(key: &str) -> &'static str {
    match key {
        "program" => "the BPF program",
        "requested" => "--transport",
        "details" => "the recording of details",
        "ring" => "the size of the ring",
        "args" => "the maximum bytes of arguments",
        _ => "the version of the handover",
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    fn state() -> State {
        let transport = TransportInfo { name: "ring".into(), why: "no\ndetails".into() };
        let signals = SignalTracing::Off { why: "no\npermission".into() };
        State::new(&RecordOptions::default(), (&transport, &signals), &[(Role::Ring, "map_id 7".into())])
    }

    #[test]
    fn a_description_survives_its_file_and_cannot_be_changed() {
        let (state, file) = (state(), state().to_file().unwrap());
        let read = State::from_file(file.as_fd()).unwrap();
        assert_eq!(read.0.get("ring"), state.0.get("ring"));
        assert_eq!(read.transport(), TransportInfo { name: "ring".into(), why: "no details".into() });
        assert_eq!(read.no_signals(), "no permission");
        assert_eq!((read.identity(Role::Ring), read.identity(Role::Peaks)), (Some("map_id 7"), None));
        assert!(rustix::io::write(&file, b"x").is_err());
        // Each reader begins at the start, although the copies of a descriptor share a position.
        assert_eq!(State::from_file(file.as_fd()).unwrap(), read);
    }

    #[test]
    fn each_change_of_the_layout_is_named() {
        let changed = |change: fn(&mut RecordOptions)| {
            let mut options = RecordOptions::default();
            change(&mut options);
            state().check(&options).map_err(|error| error.to_string())
        };
        assert!(changed(|_| {}).is_ok());
        assert!(changed(|options| options.latency *= 2).is_ok());
        let ring = changed(|options| options.ring = 4096).unwrap_err();
        assert!(ring.contains("the size of the ring was `16777216` and is `4096` now"), "{ring}");
        assert!(changed(|options| options.args_max = 0).unwrap_err().contains("arguments was `4096`"));
        assert!(changed(|options| options.details = false).unwrap_err().contains("details"));
        let mut other = state();
        other.0.insert("program".into(), "0".into());
        let program = other.check(&RecordOptions::default()).unwrap_err().to_string();
        assert!(program.contains("the BPF program was `0`"), "{program}");
    }

    #[test]
    fn other_files_are_no_description() {
        let why = |fd: OwnedFd| State::from_file(fd.as_fd()).unwrap_err();
        assert!(why(File::open("/dev/null").unwrap().into()).contains("not a file in memory"));
        let unsealed = memfd_create("x", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(why(unsealed).contains("can be changed"));
        let sealed = |text: &[u8]| {
            let fd = memfd_create("x", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
            File::from(fd.try_clone().unwrap()).write_all(text).unwrap();
            fcntl_add_seals(&fd, SealFlags::WRITE | SealFlags::SHRINK).unwrap();
            fd
        };
        assert!(why(sealed(b"handover\n")).contains("lines"));
        assert!(why(sealed(&[0xff; 10])).contains("cannot be read"));
        assert!(why(sealed(&b"a b\n".repeat(5000))).contains("more than"));
    }
}
