//! The screen of a terminal: plain escape sequences, which every terminal supports.

use std::io::{self, IsTerminal as _, Write as _, stdin, stdout};
use std::sync::{Mutex, PoisonError};

use pmon_record::WakeHandle;
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::keys::{Key, KeyReader};
use crate::exit::{self, Failure, OrFail as _};
use crate::terminal::{self, cut};

/// The terminal's modes before the screen was opened; `None` while it is closed.
static MODES: Mutex<Option<Termios>> = Mutex::new(None);

/// Shows the alternate screen, without cursor and without wrapping of long lines.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
/// Undoes [`ENTER`].
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// How a line is shown, if the terminal supports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineStyle {
    Plain,
    Bold,
    /// Dark on bright.
    Reverse,
    Warning,
}

/// A line of the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ScreenLine {
    pub(super) text: String,
    pub(super) style: LineStyle,
}

/// The open screen. The terminal is restored on drop and by a panic.
pub(super) struct Screen {
    keys: KeyReader,
    /// A key that has arrived and was not taken.
    arrived: Option<Key>,
    size: (usize, usize),
    has_styles: bool,
}

impl Screen {
    /// Returns whether standard input and output are a terminal with a screen.
    pub(super) fn is_possible() -> bool {
        let term = std::env::var_os("TERM").unwrap_or_default();
        stdin().is_terminal() && stdout().is_terminal() && !term.is_empty() && term != "dumb"
    }

    /// Opens the screen. `wake` wakes up the main thread for each key.
    pub(super) fn open(wake: WakeHandle) -> Result<Self, Failure> {
        let failed = "cannot read keys from the terminal; use `pmon top | cat` for plain text";
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            previous(info);
        }));
        enter().or_fail(exit::ENVIRONMENT, failed)?;
        let keys = KeyReader::start(wake).inspect_err(|_| restore());
        let keys = keys.or_fail(exit::ENVIRONMENT, failed)?;
        Ok(Self { keys, arrived: None, size: size(), has_styles: terminal::colours() })
    }

    /// Returns the next key, if there is one.
    pub(super) fn key(&mut self) -> Option<Key> {
        self.arrived.take().or_else(|| self.keys.next())
    }

    /// Returns whether there is a key.
    pub(super) fn has_key(&mut self) -> bool {
        self.arrived = self.key();
        self.arrived.is_some()
    }

    /// Returns the numbers of columns and rows.
    pub(super) fn size(&self) -> (usize, usize) {
        self.size
    }

    /// Returns whether the size has changed.
    pub(super) fn has_resized(&mut self) -> bool {
        let size = size();
        let has_resized = size != self.size;
        self.size = size;
        has_resized
    }

    /// Shows these lines. Lines that do not fit are cut.
    pub(super) fn draw(&self, lines: &[ScreenLine]) -> Result<(), Failure> {
        // A thread that panicked has restored the terminal.
        if MODES.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return Ok(());
        }
        let (columns, rows) = self.size;
        let mut out = String::from("\x1b[H");
        for (at, line) in lines.iter().take(rows).enumerate() {
            if at > 0 {
                out.push_str("\r\n");
            }
            let text = cut(&line.text, Some(columns));
            match (self.has_styles, line.style) {
                (false, _) | (_, LineStyle::Plain) => out.push_str(text),
                (true, LineStyle::Bold) => out.push_str(&format!("\x1b[1m{text}\x1b[m")),
                (true, LineStyle::Reverse) => out.push_str(&format!("\x1b[7m{text:<columns$}\x1b[m")),
                (true, LineStyle::Warning) => out.push_str(&format!("\x1b[31m{text}\x1b[m")),
            }
            out.push_str("\x1b[K");
        }
        out.push_str("\x1b[J");
        write(&out).map_err(Failure::output)
    }

    /// Stops the process, as Ctrl-Z does elsewhere, with a usable terminal. Returns once it
    /// continues.
    pub(super) fn suspend(&mut self) -> Result<(), Failure> {
        restore();
        kill_process(getpid(), Signal::TSTP).or_fail(exit::INTERNAL, "cannot stop")?;
        enter().or_fail(exit::ENVIRONMENT, "cannot set the modes of the terminal")?;
        self.size = size();
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn size() -> (usize, usize) {
    (terminal::screen_width().unwrap_or(80), terminal::output_height().unwrap_or(24))
}

/// Opens the screen, and lets keys arrive at once and without echo.
fn enter() -> io::Result<()> {
    let modes = tcgetattr(stdin())?;
    let mut raw = modes.clone();
    raw.make_raw();
    tcsetattr(stdin(), OptionalActions::Now, &raw)?;
    *MODES.lock().unwrap_or_else(PoisonError::into_inner) = Some(modes);
    write(ENTER)
}

/// Closes the screen if it is open, and restores the modes of the terminal.
fn restore() {
    // Fails if this thread panicked while it held the lock.
    let Ok(mut modes) = MODES.try_lock() else { return };
    if let Some(modes) = modes.take() {
        // The terminal may be gone.
        let _ = write(LEAVE);
        let _ = tcsetattr(stdin(), OptionalActions::Now, &modes);
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
