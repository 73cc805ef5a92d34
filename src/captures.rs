//! The recording that a verb reads: a file, several files, a directory, or standard input.

use std::fs::File;
use std::io::{self, IsTerminal as _, stdin};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pmon_core::capture::OpenError;
use pmon_store::{CaptureBytes, Directory, ListError, SegmentEntry, SegmentList, SegmentReader};

use crate::exit::{self, Failure, OrFail as _};
use crate::input::{CaptureInput, CaptureRecording, is_stdio, shown};
use crate::output::printable;
use crate::query::is_stdin_copy;
use crate::terminal::counted;

/// What to do after a wrong name.
pub(crate) const WHAT_TO_NAME: &str = "name a file that `pmon record` wrote, or the directory of a store";
/// What to do without the permission to read a capture.
const WHO_MAY_READ: &str = "only its owner can read a capture; run pmon as that user, or as root";

/// The recording that a verb reads.
#[derive(Clone)]
pub(crate) struct Captures {
    name: String,
    pub(crate) source: CaptureSource,
    /// The process that is recording into the store.
    recorder: Option<u32>,
}

/// Where a recording comes from.
#[derive(Clone)]
pub(crate) enum CaptureSource {
    /// One capture, or standard input for `-`.
    One(PathBuf),
    /// A store, or several files.
    Several(SegmentList),
}

impl Captures {
    /// Finds what `files` name: one capture, several, a directory, or standard input. `host`
    /// selects the captures of a host.
    pub(crate) fn find(files: &[PathBuf], host: Option<&str>) -> Result<Self, Failure> {
        let [file] = files else { return Self::of_files(files, host) };
        if !is_stdio(file) && file.is_dir() {
            return Self::of_store(file, host);
        }
        let name = match is_stdio(file) || is_stdin_copy(file) {
            true => "standard input".into(),
            false => shown(file),
        };
        if host.is_some() {
            return Err(Failure::new(
                exit::USAGE,
                format_args!("--host selects among several captures; {name} is one"),
            ));
        }
        Ok(Self { name, source: CaptureSource::One(file.clone()), recorder: recorder_of(file) })
    }

    fn of_store(path: &Path, host: Option<&str>) -> Result<Self, Failure> {
        let name = shown(path);
        let store = Arc::new(Directory::new(path));
        let list = SegmentList::of_store(store.clone(), host);
        let code = code_of(list.as_ref().err());
        let has_none =
            matches!(list, Err(ListError::EmptyDirectory | ListError::NoSegments { capture: None, .. }));
        let list = list.or_fail(code, format_args!("cannot read {name}"));
        let list =
            list.map_err(|failure| if has_none { failure.followed_by(WHAT_TO_NAME) } else { failure })?;
        let is_partial = list.entries().last().is_some_and(|last| last.is_partial);
        let recorder = store.recorder().filter(|_| is_partial);
        Ok(Self { name, source: CaptureSource::Several(list), recorder })
    }

    fn of_files(files: &[PathBuf], host: Option<&str>) -> Result<Self, Failure> {
        for file in files {
            let name = shown(file);
            if is_stdio(file) {
                let why = "standard input cannot be one of several captures; name files";
                return Err(Failure::new(exit::USAGE, why));
            }
            if file.is_dir() {
                let why = format!("{name} is a directory; name one directory, or several files");
                return Err(Failure::new(exit::USAGE, why));
            }
            let meta = file.metadata().or_fail(exit::ENVIRONMENT, format_args!("cannot open {name}"))?;
            if !meta.is_file() {
                let why =
                    format!("{name} is not a regular file; several captures can only be read from files");
                return Err(Failure::new(exit::USAGE, why));
            }
        }
        let name = counted(files.len() as u64, "capture");
        let list = SegmentList::of_files(files, host);
        let code = code_of(list.as_ref().err());
        let list = list.or_fail(code, format_args!("cannot read {name}"))?;
        let recorder = list.entries().last().and_then(|last| recorder_of(&last.path()));
        Ok(Self { name, source: CaptureSource::Several(list), recorder })
    }

    /// Returns the name of the recording for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether the recording can be read several times.
    pub(crate) fn is_rereadable(&self) -> bool {
        match &self.source {
            CaptureSource::One(path) => !is_stdio(path) && path.metadata().is_ok_and(|meta| meta.is_file()),
            CaptureSource::Several(_) => true,
        }
    }

    /// Returns whether the recording is standard input.
    pub(crate) fn is_stdin(&self) -> bool {
        matches!(&self.source, CaptureSource::One(path) if is_stdio(path))
    }

    /// Returns only the last capture of `list` that has a header.
    pub(crate) fn with_last_of(&self, list: &SegmentList) -> Self {
        Self { source: CaptureSource::Several(list.last_only()), ..self.clone() }
    }

    /// Opens the recording.
    pub(crate) fn open(&self) -> Result<CaptureInput, Failure> {
        let name = self.name.clone();
        match &self.source {
            CaptureSource::One(path) => {
                let mut input = open_one(name, path)?;
                input.is_recorded_by = self.recorder;
                Ok(input)
            }
            CaptureSource::Several(list) => {
                let mut list = list.clone();
                list.order();
                let bytes = list.entries().iter().map(SegmentEntry::file_len).sum();
                let opened = SegmentReader::open(list);
                let code = refusal(opened.as_ref().err());
                let reader = opened.or_fail(code, format_args!("cannot read {name}"))?;
                let mut input =
                    CaptureInput::new(name, CaptureRecording::Several(Box::new(reader)), Some(bytes));
                input.is_recorded_by = self.recorder;
                Ok(input)
            }
        }
    }
}

/// Refuses standard input if it is a terminal, on which no user enters a capture.
pub(crate) fn refuse_terminal() -> Result<(), Failure> {
    if !stdin().is_terminal() {
        return Ok(());
    }
    let why = "standard input is a terminal, and no capture; use a pipe: `pmon record -o - | pmon print -`";
    Err(Failure::new(exit::USAGE, why))
}

/// Returns the process that is writing a file of a store.
pub(crate) fn recorder_of(file: &Path) -> Option<u32> {
    let is_partial = file.extension().is_some_and(|extension| extension == "partial");
    let directory = file.parent().filter(|_| is_partial)?;
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    Directory::new(directory).recorder()
}

fn open_one(name: String, path: &Path) -> Result<CaptureInput, Failure> {
    let (source, file_bytes) = if is_stdio(path) {
        refuse_terminal()?;
        (CaptureBytes::Stdin(stdin()), None)
    } else {
        let unreadable = format!("cannot open {name}{}", hint(path));
        let opened = File::open(path);
        let kind = opened.as_ref().err().map(io::Error::kind);
        let file = opened.or_fail(exit::ENVIRONMENT, &unreadable).map_err(|failure| match kind {
            Some(io::ErrorKind::NotFound) => failure.followed_by(WHAT_TO_NAME),
            Some(io::ErrorKind::PermissionDenied) => failure.followed_by(WHO_MAY_READ),
            _ => failure,
        })?;
        let meta = file.metadata().or_fail(exit::ENVIRONMENT, &unreadable)?;
        (CaptureBytes::File(file), meta.is_file().then_some(meta.len()))
    };
    let opened = source.into_reader();
    let code = refusal(opened.as_ref().err());
    let is_other = matches!(opened, Err(OpenError::NotACapture | OpenError::Empty));
    let reader = opened.or_fail(code, format_args!("cannot read {name}"));
    let reader =
        reader.map_err(|failure| if is_other { failure.followed_by(WHAT_TO_NAME) } else { failure })?;
    Ok(CaptureInput::new(name, CaptureRecording::One(Box::new(reader)), file_bytes))
}

fn refusal(error: Option<&OpenError>) -> u8 {
    if matches!(error, Some(OpenError::Io(_))) { exit::ENVIRONMENT } else { exit::REFUSED }
}

fn code_of(error: Option<&ListError>) -> u8 {
    match error {
        Some(ListError::SeveralHosts { .. } | ListError::NoSuchHost { .. }) => exit::USAGE,
        Some(ListError::Io(_)) => exit::ENVIRONMENT,
        _ => exit::REFUSED,
    }
}

/// Returns a hint if a capture does not exist, but its unfinished file does.
fn hint(path: &Path) -> String {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    if path.exists() || !Path::new(&partial).exists() {
        return String::new();
    }
    let partial = printable(partial.as_encoded_bytes());
    format!(" ({partial} exists: still being written, or its recorder was killed)")
}
