//! Fuzzes the codec with any datagram: it must not panic, and a datagram that decodes exactly must
//! encode to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pmon_core::wire::{ByteOrder, EVENT_DATAGRAM_LEN, Event, NLMSGHDR_LEN, messages};

fuzz_target!(|bytes: &[u8]| {
    for order in [ByteOrder::Little, ByteOrder::Big] {
        assert!(messages(bytes, order).count() <= bytes.len() / NLMSGHDR_LEN);
        if let Some(event) = Event::from_exact(bytes, order) {
            assert_eq!(event.encode(order).as_ref().map(<[u8; EVENT_DATAGRAM_LEN]>::as_slice), Some(bytes));
        }
    }
});
