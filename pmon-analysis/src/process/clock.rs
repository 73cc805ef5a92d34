//! Conversion between the clocks of a recording.

use pmon_core::MonoNs;
use pmon_core::capture::ClockAnchor;

/// Converts clock ticks since boot to the monotonic clock; `None` if the length of a tick is
/// unknown. Both clocks are assumed to differ as in the reading `clock`.
pub(super) fn mono_of_ticks(ticks: u64, ticks_per_second: u64, clock: ClockAnchor) -> Option<MonoNs> {
    let boot_ns = (u128::from(ticks) * 1_000_000_000).checked_div(u128::from(ticks_per_second))?;
    let boot_ns = u64::try_from(boot_ns).ok()?;
    let before = clock.boot_ns.saturating_sub(boot_ns);
    let after = boot_ns.saturating_sub(clock.boot_ns);
    Some(MonoNs(clock.mono.0.saturating_sub(before).saturating_add(after)))
}
