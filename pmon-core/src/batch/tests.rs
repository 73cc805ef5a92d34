use super::*;

#[test]
fn datagrams_are_returned_as_pushed_until_the_batch_is_full() {
    let mut batch = Batch::with_capacity(2);
    assert!(batch.push(b"one", 0));
    assert!(batch.push(&[7; SLOT_LEN + 1], 42));
    assert!(!batch.push(b"three", 0));
    let datagrams: Vec<_> = batch.datagrams().collect();
    assert_eq!(datagrams[0].bytes, b"one");
    assert!(!datagrams[0].is_truncated());
    assert_eq!(datagrams[1].bytes.len(), SLOT_LEN);
    assert!(datagrams[1].is_truncated());
    assert_eq!(datagrams[1].arrival, Arrival { len: SLOT_LEN + 1, sender: 42 });
    batch.clear();
    assert!(batch.is_empty() && batch.push(b"again", 0));
}

#[test]
fn metadata_stay_with_their_datagram_and_count_towards_the_capacity() {
    let mut batch = Batch::with_metadata(8, 10, 4);
    let arrival = Arrival { len: 3, sender: 0 };
    assert!(batch.push_with_metadata(b"one", arrival, &[b"fi", b"rst"]));
    assert!(batch.push(b"two", 0));
    assert!(!batch.is_full() && !batch.push_with_metadata(b"too long", arrival, &[b"second"]));
    assert!(batch.push_with_metadata(b"six", arrival, &[b"ab"]));
    assert!(batch.is_full());
    let metadata =
        |batch: &Batch| batch.datagrams().map(|datagram| datagram.metadata.to_vec()).collect::<Vec<_>>();
    assert_eq!(metadata(&batch), [&b"first"[..], b"", b"ab"]);
    assert_eq!(
        batch.datagrams_from(2).map(|datagram| (datagram.bytes, datagram.metadata)).collect::<Vec<_>>(),
        [(&b"six"[..], &b"ab"[..])]
    );
    assert_eq!((batch.datagrams_from(3).len(), batch.datagrams_from(9).len()), (0, 0));
    batch.truncate(2);
    assert!(!batch.is_full() && batch.push_with_metadata(b"six", arrival, &[b"cd"]));
    assert_eq!(metadata(&batch), [&b"first"[..], b"", b"cd"]);
}
