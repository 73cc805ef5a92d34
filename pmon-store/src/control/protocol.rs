//! The lines of the control socket as types.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::request_line;

/// Version of the protocol. A recorder refuses requests of another version; new fields in replies
/// do not change it.
pub(super) const PROTOCOL_VERSION: u64 = 1;

/// Maximum bytes of a request, with its line feed.
pub(super) const MAX_LINE: usize = 64 << 10;

/// A request to a recorder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Report the recorder's state.
    Status,
    /// Write a clip of what happened around now.
    Snapshot(SnapshotRequest),
    /// Begin the next segment.
    Rotate,
    /// Read the configuration file again.
    Reload,
    /// Replace the recorder by the program that is installed now, without a gap.
    Upgrade,
}

/// The interval and the name of a requested clip; what is `None` has the recorder's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// Part of the clip's file name.
    pub name: Option<String>,
    /// Nanoseconds before the request that the clip contains.
    pub before_ns: Option<u64>,
    /// Nanoseconds after the request that the clip contains.
    pub after_ns: Option<u64>,
}

/// Why a line is not a request.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// The line is not a JSON object with the expected fields.
    #[error("the request is malformed: {0}")]
    Malformed(String),
    /// The request has another version.
    #[error("version {0} of the protocol is not supported; use version {PROTOCOL_VERSION}")]
    Version(String),
    /// No request has that name.
    #[error("there is no request {0}; use status, snapshot, rotate, reload or upgrade")]
    Unknown(String),
    /// The line is longer than 64 KiB.
    #[error("the request is longer than {MAX_LINE} bytes; send one JSON object in a line")]
    TooLong,
}

/// A request as JSON.
#[derive(Serialize)]
struct RequestLine {
    version: u64,
    request: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_ns: Option<u64>,
}

impl Request {
    /// Parses a line. Unknown fields are refused, so that no misspelt option is ignored.
    ///
    /// # Errors
    /// When the line is no request of this version.
    pub fn parse(line: &[u8]) -> Result<Self, RequestError> {
        request_line::parse(line)
    }

    /// Returns the request's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Snapshot(_) => "snapshot",
            Self::Rotate => "rotate",
            Self::Reload => "reload",
            Self::Upgrade => "upgrade",
        }
    }

    /// Returns the request as a line with its line feed.
    pub fn to_line(&self) -> String {
        let snapshot =
            if let Self::Snapshot(snapshot) = self { snapshot.clone() } else { Default::default() };
        let SnapshotRequest { name, before_ns, after_ns } = snapshot;
        to_line(&RequestLine { version: PROTOCOL_VERSION, request: self.name(), name, before_ns, after_ns })
    }
}

/// The reply to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reply {
    /// The recorder's state.
    Status(Box<Status>),
    /// The clip is written.
    Snapshot(SnapshotReply),
    /// The next segment begins.
    Rotate(RotateReply),
    /// The configuration was read.
    Reload(ReloadReply),
    /// The recorder begins to replace itself.
    Upgrade(UpgradeReply),
    /// The request was refused, or failed.
    Error {
        /// The kind of error, for programs.
        code: ErrorCode,
        /// What failed, why, and what to do.
        message: String,
    },
}

/// The kind of error in [`Reply::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The line is no request, or has wrong values.
    BadRequest,
    /// The user may not control the recorder.
    Forbidden,
    /// Too many clients are connected, or too many requests are pending.
    Busy,
    /// The recorder could not do it.
    Failed,
    /// A code of a later version.
    #[serde(other)]
    Other,
}

/// The state of a recorder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Name and version of the program.
    pub tool: String,
    /// Process id of the recorder.
    pub pid: u32,
    /// Wall-clock time at which the recorder started or replaced itself, in ns since 1970.
    pub started_ns: i64,
    /// The store's directory.
    pub store: String,
    /// `store`, or `flight` for a flight recorder, whose segments are in memory.
    pub mode: String,
    /// How the recorder receives events.
    pub transport: String,
    /// Number of recorded events since the start, without the recorder's own.
    pub events: u64,
    /// Numbers of lost events since the start.
    pub lost: LostEvents,
    /// Whether the kernel emits no events at the moment.
    pub blind: bool,
    /// Number of periods without events.
    pub blind_periods: u64,
    /// Fill level of the queue to the writer thread, from 0 to 1.
    pub queue_fill: f64,
    /// How far the writer thread lags, in ns.
    pub lag_ns: u64,
    /// Bytes that the store uses, with the current segment.
    pub used_bytes: u64,
    /// Number of segments, with the current one.
    pub segments: u64,
    /// Name of the oldest segment.
    pub oldest: Option<String>,
    /// Name of the current segment.
    pub current: Option<String>,
    /// Bytes of the current segment.
    pub current_bytes: u64,
    /// The limits in force.
    pub limits: Limits,
    /// The triggers in force.
    pub triggers: Vec<TriggerStatus>,
    /// The last error of the storage, while it lasts.
    pub storage_error: Option<String>,
    /// Why the last `upgrade` failed.
    pub upgrade_error: Option<String>,
}

/// How often a trigger has fired.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TriggerStatus {
    /// The trigger's name.
    pub name: String,
    /// Number of requested clips.
    pub fired: u64,
    /// Number of further firings that these clips contain.
    pub merged: u64,
    /// Number of firings whose clip the trigger's limit suppressed.
    pub suppressed: u64,
    /// Number of firings whose clip was not requested because too many requests waited.
    pub dropped: u64,
}

/// Numbers of lost events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LostEvents {
    /// All of them.
    pub total: u64,
    /// Numbers by cause; causes without losses are left out.
    pub by_cause: std::collections::BTreeMap<String, u64>,
}

/// The limits of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Maximum bytes of a segment.
    pub rotate_size_bytes: u64,
    /// Maximum age of a segment in ns.
    pub rotate_every_ns: u64,
    /// Maximum bytes of the store.
    pub max_use_bytes: Option<u64>,
    /// Maximum age of a segment's end in ns.
    pub max_age_ns: Option<u64>,
    /// Minimum free bytes of the filesystem.
    pub keep_free_bytes: Option<u64>,
}

/// The reply to [`Request::Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotReply {
    /// Path of the clip, as the recorder names it.
    pub path: String,
    /// The clip's own verdict, in one word.
    pub verdict: String,
    /// Number of events in the clip.
    #[serde(default)]
    pub events: u64,
    /// Bytes of the clip.
    #[serde(default)]
    pub bytes: u64,
    /// What the clip lacks, for people; empty if it is complete.
    #[serde(default)]
    pub missing: String,
}

/// The reply to [`Request::Rotate`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateReply {
    /// Name of the segment that ends, if it has begun.
    #[serde(default)]
    pub ending: Option<String>,
}

/// The reply to [`Request::Reload`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReply {
    /// Path of the configuration file.
    #[serde(default)]
    pub file: Option<String>,
    /// Options that were changed.
    #[serde(default)]
    pub changed: Vec<String>,
    /// Options whose new values need a restart or an upgrade.
    #[serde(default)]
    pub needs_restart: Vec<String>,
    /// Number of triggers in force.
    #[serde(default)]
    pub triggers: u64,
}

/// The reply to [`Request::Upgrade`]. It is sent before the recorder replaces itself; `status`
/// then reports another [`Status::started_ns`], or [`Status::upgrade_error`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeReply {}

/// A reply with the version of the protocol.
#[derive(Serialize)]
struct VersionedReply<'a> {
    version: u64,
    #[serde(flatten)]
    reply: &'a Reply,
}

impl Reply {
    /// Creates an error.
    pub fn error(code: ErrorCode, message: impl ToString) -> Self {
        Self::Error { code, message: message.to_string() }
    }

    /// Returns the reply as a line with its line feed.
    pub fn to_line(&self) -> String {
        to_line(&VersionedReply { version: PROTOCOL_VERSION, reply: self })
    }

    /// Parses a line. Unknown fields are ignored.
    ///
    /// # Errors
    /// When the line is no reply.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| error.to_string())
    }
}

impl From<RequestError> for Reply {
    fn from(error: RequestError) -> Self {
        Self::error(ErrorCode::BadRequest, error)
    }
}

/// Formats a value as a line of JSON.
fn to_line(value: &impl Serialize) -> String {
    // Only a map whose keys are no strings could fail.
    serde_json::to_string(value).unwrap_or_else(|_unreachable| "{}".into()) + "\n"
}
