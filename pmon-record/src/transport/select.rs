//! Selects the transport of events: a ring with details, a ring without, or only the socket.

use pmon_core::capture::TransportInfo;

use crate::options::{RecordOptions, TransportChoice};
use crate::transport::ring::RingError;
use crate::transport::subscribe_error::SubscribeError;

/// Name of the transport by a ring with the details of processes.
pub const RING_DETAILS: &str = "ring+details";
/// Name of the transport by a ring without details.
pub(crate) const RING: &str = "ring";
/// Name of the transport by the socket alone.
const RECVMMSG: &str = "recvmmsg";

/// Attaches the ring that `options` permit, and returns it with the description of the transport
/// for the capture, which includes the reason for each step down.
///
/// `attach` attaches a ring; its argument is whether details are requested.
pub(crate) fn select<R>(
    options: &RecordOptions,
    mut attach: impl FnMut(bool) -> Result<R, RingError>,
) -> Result<(Option<R>, TransportInfo), SubscribeError> {
    let info = |name: &str, why: String| TransportInfo { name: name.into(), why };
    let refused = |error: RingError| SubscribeError::Ring { why: error.to_string() };
    let needs_ring = |why: String| SubscribeError::scope_needs_ring(&options.scope, why);
    let requested = || "asked for".to_owned();
    match options.transport {
        TransportChoice::RingDetails => {
            Ok((Some(attach(true).map_err(refused)?), info(RING_DETAILS, requested())))
        }
        TransportChoice::Ring => Ok((Some(attach(false).map_err(refused)?), info(RING, requested()))),
        TransportChoice::Recvmmsg if options.scope.is_all() => Ok((None, info(RECVMMSG, requested()))),
        TransportChoice::Recvmmsg => Err(needs_ring("--transport recvmmsg has no ring".into())),
        TransportChoice::Auto => {
            let no_details = match options.details.then(|| attach(true)) {
                Some(Ok(ring)) => return Ok((Some(ring), info(RING_DETAILS, String::new()))),
                Some(Err(error)) => format!("no details: {error}"),
                None => "no details were requested".into(),
            };
            match attach(false) {
                Ok(ring) => Ok((Some(ring), info(RING, no_details))),
                Err(error) if !options.scope.is_all() => Err(needs_ring(error.to_string())),
                Err(error) => Ok((None, info(RECVMMSG, format!("no ring: {error}")))),
            }
        }
    }
}

#[cfg(test)]
mod tests;
