//! Reads a capture from a file or from standard input.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, StdinLock, stdin};
use std::path::Path;

use indicatif::ProgressBar;
use pmon_core::capture::{Damage, Header, Item, OpenError, Reader, Record};
use pmon_core::wire::ByteOrder;
use pmon_replay::Replay;

use crate::exit::{self, Failure, OrFail};
use crate::output::printable;
use crate::report::verdict::{Completeness, CompletenessChecker};
use crate::terminal;

/// A capture that is read once, from the start to the end.
pub(crate) struct CaptureInput {
    name: String,
    pub(crate) reader: Reader<InputBytes>,
    file_bytes: Option<u64>,
    damaged: u64,
}

/// The reader of a [`CaptureInput`].
pub(crate) type CaptureRecording = Reader<InputBytes>;
/// A replay of a [`CaptureInput`].
pub(crate) type CaptureReplay = Replay<CaptureRecording>;

/// The bytes of a capture.
pub(crate) enum InputBytes {
    File(File),
    Stdin(StdinLock<'static>),
}

impl Read for InputBytes {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(into),
            Self::Stdin(stdin) => stdin.read(into),
        }
    }
}

impl Seek for InputBytes {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Stdin(_) => Err(ErrorKind::NotSeekable.into()),
        }
    }
}

/// Bytes at the end of a hole that are read anyway, because a trailer may begin with zeros.
const END_OF_HOLE: u64 = 24;

/// Skips a hole of a file, for [`Reader::open_sparse`]. Pipes and some file systems have no holes.
pub(crate) fn skip_hole(file: &mut File) -> io::Result<u64> {
    use rustix::fs::SeekFrom as HoleSeek;
    let Ok(at) = file.stream_position() else { return Ok(0) };
    let data = match rustix::fs::seek(&*file, HoleSeek::Data(at)) {
        Ok(data) => data,
        // Only zeros follow until the end.
        Err(rustix::io::Errno::NXIO) => file.seek(SeekFrom::End(0))?,
        Err(_) => at,
    };
    let next = data.saturating_sub(END_OF_HOLE).max(at);
    file.seek(SeekFrom::Start(next))?;
    Ok(next - at)
}

/// An item of a capture.
pub(crate) enum InputItem<'a> {
    /// A record of a block.
    Record(Record<'a>),
    /// The end of a block. From a pipe, the next block may arrive much later.
    BlockEnd,
    /// A damaged part.
    Damage(Damage),
}

/// The result of reading a capture.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadOutcome {
    /// Whether the recorder ended cleanly.
    pub(crate) clean_end: bool,
    /// Size of the capture in bytes; of its intact part if the recorder did not end cleanly.
    pub(crate) bytes: u64,
    /// Number of blocks of an unknown kind.
    pub(crate) unknown_blocks: u64,
    /// Number of damaged parts.
    pub(crate) damaged: u64,
}

impl ReadOutcome {
    /// Returns the exit code of the verb.
    pub(crate) fn exit_code(&self) -> u8 {
        if self.damaged > 0 { exit::DAMAGED } else { exit::DONE }
    }
}

/// Whether the path is `-`, which means standard input or output.
pub(crate) fn is_stdio(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Formats a path, with characters escaped that could control the terminal.
pub(crate) fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_encoded_bytes())
}

impl CaptureInput {
    /// Opens the capture `path`, or standard input for `-`.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let name = if is_stdio(path) { "standard input".into() } else { shown(path) };
        let (source, file_bytes) = if is_stdio(path) {
            (InputBytes::Stdin(stdin().lock()), None)
        } else {
            let unreadable = format!("cannot open {name}{}", hint(path));
            let file = File::open(path).or_fail(exit::ENVIRONMENT, &unreadable)?;
            let meta = file.metadata().or_fail(exit::ENVIRONMENT, &unreadable)?;
            (InputBytes::File(file), meta.is_file().then_some(meta.len()))
        };
        let skip_hole = |bytes: &mut InputBytes| match bytes {
            InputBytes::File(file) => skip_hole(file),
            InputBytes::Stdin(_) => Ok(0),
        };
        let opened = Reader::open_sparse(source, skip_hole);
        let code = if matches!(opened, Err(OpenError::Io(_))) { exit::ENVIRONMENT } else { exit::REFUSED };
        let reader = opened.or_fail(code, format_args!("cannot read {name}"))?;
        Ok(Self { name, reader, file_bytes, damaged: 0 })
    }

    /// Returns the name of the capture for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the header, if it is intact.
    pub(crate) fn header(&self) -> Option<&Header> {
        self.reader.header()
    }

    /// Returns the byte order of the datagrams.
    pub(crate) fn order(&self) -> ByteOrder {
        self.reader.byte_order()
    }

    /// Returns the length of a regular file.
    pub(crate) fn file_bytes(&self) -> Option<u64> {
        self.file_bytes
    }

    /// Reads to the end and checks the completeness, with a progress bar. Reports damage on
    /// standard error. Passes each record to `visit`, too.
    pub(crate) fn examine(
        self,
        mut visit: impl FnMut(&Record<'_>),
    ) -> Result<(Completeness, ReadOutcome), Failure> {
        let name = self.name.clone();
        let mut checker = CompletenessChecker::new(self.header(), self.order());
        let bar = terminal::reading_bar(self.file_bytes.unwrap_or(0));
        let outcome = self.read(&bar, |item| {
            match item {
                InputItem::Record(record) => {
                    checker.count(&record);
                    visit(&record);
                }
                InputItem::BlockEnd => {}
                InputItem::Damage(damage) => {
                    bar.suspend(|| report_damage(&name, &damage));
                    checker.damage(&damage);
                }
            }
            Ok(())
        })?;
        Ok((checker.finish(outcome.clean_end), outcome))
    }

    /// Reads to the end, and passes each item to `visit`. `bar` shows the progress.
    pub(crate) fn read(
        mut self,
        bar: &ProgressBar,
        mut visit: impl FnMut(InputItem<'_>) -> Result<(), Failure>,
    ) -> Result<ReadOutcome, Failure> {
        while self.read_some(&mut visit)? {
            bar.set_position(self.offset());
        }
        bar.finish_and_clear();
        Ok(self.outcome())
    }

    /// Reads the next block or damaged part, and passes its items to `visit`. Returns `false` at
    /// the end.
    pub(crate) fn read_some(
        &mut self,
        mut visit: impl FnMut(InputItem<'_>) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let item = self.reader.next_item();
        match item.or_fail(exit::ENVIRONMENT, format_args!("cannot read {}", self.name))? {
            Some(Item::Block(block)) => {
                block.records().try_for_each(|record| visit(InputItem::Record(record)))?;
                visit(InputItem::BlockEnd)?;
            }
            Some(Item::Damage(damage)) => {
                self.damaged += 1;
                visit(InputItem::Damage(damage))?;
            }
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Returns the number of bytes read so far.
    pub(crate) fn offset(&self) -> u64 {
        self.reader.offset()
    }

    /// Returns the result of reading so far.
    pub(crate) fn outcome(&self) -> ReadOutcome {
        let clean_end = self.reader.ended_cleanly();
        let bytes = match (clean_end, self.file_bytes) {
            (true, Some(bytes)) => bytes,
            (true, None) => self.reader.offset(),
            (false, _) => self.reader.intact_bytes(),
        };
        ReadOutcome { clean_end, bytes, unknown_blocks: self.reader.unknown_blocks(), damaged: self.damaged }
    }
}

/// Returns a hint if a capture does not exist, but its unfinished file does.
fn hint(path: &Path) -> String {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    if path.exists() || !Path::new(&partial).exists() {
        return String::new();
    }
    format!(" ({} exists: still being written, or its recorder was killed)", shown(Path::new(&partial)))
}

/// Reports a damaged part on standard error.
pub(crate) fn report_damage(name: &str, damage: &Damage) {
    terminal::eprintln(format_args!("pmon: {name}: {damage}"));
}
