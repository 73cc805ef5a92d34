//! Keys of the terminal.

use std::io::stdin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use pmon_record::WakeHandle;

/// Maximum number of keys that wait. Further ones wait in the terminal.
const MAX_QUEUED: usize = 64;

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Escape,
    /// Ctrl-Z.
    Suspend,
    /// Ctrl-C, Ctrl-D, or the end of the terminal's input.
    Quit,
}

/// Reads the keys of the terminal on a thread of its own.
pub(super) struct KeyReader {
    keys: Receiver<Key>,
}

impl KeyReader {
    /// Starts to read standard input, and wakes up the main thread for each key. The thread ends
    /// with the process.
    pub(super) fn start(wake: WakeHandle) -> std::io::Result<Self> {
        let (sender, keys) = sync_channel(MAX_QUEUED);
        thread::Builder::new().name("pmon-keys".into()).spawn(move || read(&sender, &wake))?;
        Ok(Self { keys })
    }

    /// Returns the next key, if there is one.
    pub(super) fn next(&self) -> Option<Key> {
        self.keys.try_recv().ok()
    }
}

fn read(sender: &SyncSender<Key>, wake: &WakeHandle) {
    let mut bytes = [0; 64];
    loop {
        let read = match rustix::io::read(stdin(), &mut bytes) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) | Ok(0) => None,
            Ok(len) => Some(len),
        };
        let keys = read.map_or_else(|| vec![Key::Quit], |len| parse(&bytes[..len]));
        for key in keys {
            if sender.send(key).is_err() {
                return;
            }
        }
        wake.wake();
        if read.is_none() {
            return;
        }
    }
}

/// Returns the keys that a terminal reported by these bytes. Unknown ones are skipped.
fn parse(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let key = match first {
            3 | 4 => Some(Key::Quit),
            0x1a => Some(Key::Suspend),
            0x1b => match after.split_first() {
                // `ESC [ parameters final` or `ESC O final`.
                Some((b'[' | b'O', sequence)) => {
                    let len = sequence.iter().position(|byte| (0x40..0x7f).contains(byte));
                    let len = len.map_or(sequence.len(), |at| at + 1);
                    rest = &sequence[len..];
                    named(&sequence[..len])
                }
                _ => Some(Key::Escape),
            },
            b' '..=b'~' => Some(Key::Char(char::from(first))),
            _ => None,
        };
        keys.extend(key);
    }
    keys
}

/// Returns the key of an escape sequence, without its introduction.
fn named(sequence: &[u8]) -> Option<Key> {
    Some(match sequence {
        b"A" => Key::Up,
        b"B" => Key::Down,
        b"C" => Key::Right,
        b"D" => Key::Left,
        b"5~" => Key::PageUp,
        b"6~" => Key::PageDown,
        b"H" | b"1~" | b"7~" => Key::Home,
        b"F" | b"4~" | b"8~" => Key::End,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_parsed_from_what_a_terminal_sends() {
        assert_eq!(
            parse(b"q \x1b[A\x1bOB\x1b[5~?"),
            [Key::Char('q'), Key::Char(' '), Key::Up, Key::Down, Key::PageUp, Key::Char('?')]
        );
        assert_eq!(
            parse(b"\x1b[C\x1b[D\x1b[6~\x1b[H\x1b[4~"),
            [Key::Right, Key::Left, Key::PageDown, Key::Home, Key::End]
        );
        assert_eq!(parse(b"\x1b"), [Key::Escape]);
        assert_eq!(parse(b"\x03\x1a\x04"), [Key::Quit, Key::Suspend, Key::Quit]);
        // Unknown sequences, also incomplete ones, and other bytes are no keys.
        assert_eq!(parse(b"\x1b[1;5A\x1b[200~x\xc3\xa9\x1b[1"), [Key::Char('x')]);
    }
}
