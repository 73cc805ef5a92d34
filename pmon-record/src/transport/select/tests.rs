use super::*;
use crate::scope::Scope;

/// Returns the name and the reason of the selected transport. The steps that are `None` fail.
fn selected(choice: TransportChoice, details: Option<()>, bare: Option<()>) -> Result<String, String> {
    let options = RecordOptions { transport: choice, ..RecordOptions::default() };
    let attach = |with_details| if with_details { details } else { bare }.ok_or(RingError::NoBtf);
    let (ring, info) = select(&options, attach).map_err(|error| error.to_string())?;
    assert_eq!(ring.is_some(), info.name.starts_with("ring"));
    Ok(format!("{} ({})", info.name, info.why))
}

#[test]
fn each_step_down_has_its_reason() {
    let why = RingError::NoBtf.to_string();
    assert!(why.contains("/sys/kernel/btf/vmlinux"));
    assert_eq!(selected(TransportChoice::Auto, Some(()), Some(())), Ok("ring+details ()".into()));
    assert_eq!(selected(TransportChoice::Auto, None, Some(())), Ok(format!("ring (no details: {why})")));
    assert_eq!(selected(TransportChoice::Auto, None, None), Ok(format!("recvmmsg (no ring: {why})")));
}

#[test]
fn a_requested_transport_is_used_or_refused() {
    for (choice, name) in [(TransportChoice::RingDetails, "ring+details"), (TransportChoice::Ring, "ring")] {
        assert_eq!(selected(choice, Some(()), Some(())), Ok(format!("{name} (asked for)")));
        assert!(selected(choice, None, None).unwrap_err().contains("does not describe its types"));
    }
    assert!(selected(TransportChoice::RingDetails, None, Some(())).is_err());
    let recvmmsg = selected(TransportChoice::Recvmmsg, Some(()), Some(()));
    assert_eq!(recvmmsg, Ok("recvmmsg (asked for)".into()));
}

#[test]
fn a_part_of_the_events_needs_a_ring() {
    let by_user = Scope { uids: vec![1], ..Scope::default() };
    let by_kind = Scope { kinds: vec![pmon_core::wire::EventKind::Exec], ..Scope::default() };
    for (scope, instead) in [(by_user, "--format json"), (by_kind, "print --kind")] {
        for (transport, ring) in [(TransportChoice::Auto, None), (TransportChoice::Recvmmsg, Some(()))] {
            let options = RecordOptions { transport, scope: scope.clone(), ..RecordOptions::default() };
            let error = select(&options, |_| ring.ok_or(RingError::NoBtf)).err().unwrap();
            assert!(matches!(error, SubscribeError::ScopeNeedsRing { .. }));
            // The proposed options select the same events as the scope.
            assert!(error.to_string().contains(instead), "{error}");
        }
    }
}
