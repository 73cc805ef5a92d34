//! Reads the configuration of a running recorder again.

use std::ffi::OsString;

use pmon_store::control::ReloadReply;
use pmon_store::{RetentionLimits, StoreHandle, StoreOptions, TriggersHandle, flight_options};

use crate::args::StoreArgs;
use crate::config::{RecordConfig, differences, is_reloadable};
use crate::exit::Failure;
use crate::terminal::counted;

/// Returns when the segments of a store end, and which of them are kept.
pub(super) fn store_options(args: &StoreArgs) -> StoreOptions {
    match args.flight {
        // The segments are in memory, so the options of a directory do not apply.
        Some(length) => flight_options(length, args.flight_memory),
        None => StoreOptions {
            rotate_size: args.rotate_size,
            rotate_every: args.rotate_every,
            limits: RetentionLimits {
                max_use: args.max_use,
                max_age: args.max_age,
                keep_free: args.keep_free,
            },
            ..StoreOptions::default()
        },
    }
}

/// Reads the configuration again, and applies the options that can change while the recorder runs.
///
/// # Errors
/// When the configuration is invalid. Nothing is changed then.
pub(super) fn reload(
    line: &[OsString],
    config: &mut RecordConfig,
    handle: &StoreHandle,
    triggers: &TriggersHandle,
) -> Result<ReloadReply, Failure> {
    let new = RecordConfig::read(line)?;
    // Options that cannot be applied are checked as well, so that the next start succeeds.
    super::options(&new.args)?;
    let (changed, needs_restart): (Vec<_>, Vec<_>) =
        differences(&config.options, &new.options).into_iter().partition(|key| is_reloadable(key));
    let reply = ReloadReply {
        file: new.file.as_ref().map(|file| file.path.to_string_lossy().into_owned()),
        changed,
        needs_restart,
        triggers: new.triggers().len() as u64,
    };
    // An option that needs a restart keeps its old value until then, and the next reload reports it
    // again.
    if config.args.store.flight.is_none() {
        handle.set_options(store_options(&new.args.store));
    }
    triggers.replace(new.triggers().to_vec());
    config.take_reloadable(new);
    Ok(reply)
}

/// Describes the result of a reload for people.
pub(in crate::commands) fn text(reply: &ReloadReply) -> String {
    let changed = match &reply.changed[..] {
        [] => "no option has changed".to_owned(),
        keys => format!("changed {}", keys.join(", ")),
    };
    let restart = match &reply.needs_restart[..] {
        [] => String::new(),
        keys => format!("; the changes of {} need a restart or `pmon control upgrade`", keys.join(", ")),
    };
    let file = reply.file.as_deref().unwrap_or("no configuration file");
    let triggers = match reply.triggers {
        0 => String::new(),
        count => format!(", {} in force", counted(count, "trigger")),
    };
    format!("reloaded {file}: {changed}{triggers}{restart}")
}
