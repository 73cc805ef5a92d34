//! Any datagram: no panic; what decodes exactly encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pmon_core::wire::{ByteOrder, Event, messages};

fuzz_target!(|bytes: &[u8]| {
    for order in [ByteOrder::Little, ByteOrder::Big] {
        assert!(messages(bytes, order).count() <= bytes.len() / 16);
        if let Some(event) = Event::from_exact(bytes, order) {
            assert_eq!(event.encode(order).as_ref().map(<[u8; 76]>::as_slice), Some(bytes));
        }
    }
});
