//! The digests of the files that a proof rests on.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::captures::{CaptureSource, Captures};
use crate::exit::{self, Failure, OrFail as _};
use crate::input::{is_stdio, shown};

/// Returns path, size and SHA-256 of each file; `None` for standard input, which cannot be read
/// twice.
pub(super) fn digests(captures: &Captures) -> Result<Option<Vec<Value>>, Failure> {
    let paths: Vec<PathBuf> = match &captures.source {
        CaptureSource::One(path) if is_stdio(path) => return Ok(None),
        CaptureSource::One(path) => vec![path.clone()],
        CaptureSource::Several(list) => list.entries().iter().map(|entry| entry.path()).collect(),
    };
    paths.iter().map(digest).collect::<Result<_, _>>().map(Some)
}

fn digest(path: &PathBuf) -> Result<Value, Failure> {
    let unreadable = format!("cannot read {}", shown(path));
    let mut file = File::open(path).or_fail(exit::ENVIRONMENT, &unreadable)?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0u64, vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).or_fail(exit::ENVIRONMENT, &unreadable)? {
            0 => break,
            read => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(json!({ "path": shown(path), "bytes": bytes, "sha256": hex }))
}
