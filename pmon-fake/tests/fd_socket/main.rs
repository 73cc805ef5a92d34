//! Consumers that read the file descriptor of an `FdSocket`.

mod netlink;
mod pump;
mod pump_thread;

use std::os::fd::AsFd;

use pmon_core::wire::{ByteOrder, Event, EventBody, SubscribeOp, SubscribeRequest};
use pmon_fake::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Subscribes to all events.
fn listen(consumer: impl AsFd) {
    request(consumer, SubscribeOp::Listen);
}

fn request(consumer: impl AsFd, operation: SubscribeOp) {
    let request = SubscribeRequest::new(operation, 41).encode(0, ByteOrder::NATIVE);
    assert_eq!(send(consumer, &request, SendFlags::NOSIGNAL), Ok(request.len()));
}

/// Receives one datagram.
fn next(consumer: impl AsFd, flags: RecvFlags) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 1 << 18];
    let (len, _) = recv(consumer, &mut buffer[..], flags)?;
    buffer.truncate(len);
    Ok(buffer)
}

/// Receives datagrams until `EAGAIN` or end of file; returns whether it was the end of file.
fn drain(consumer: impl AsFd) -> (Vec<Vec<u8>>, bool) {
    let mut datagrams = Vec::new();
    loop {
        match next(&consumer, RecvFlags::DONTWAIT) {
            Ok(datagram) if datagram.is_empty() => return (datagrams, true),
            Ok(datagram) => datagrams.push(datagram),
            Err(Errno::AGAIN) => return (datagrams, false),
            Err(error) => panic!("recv: {error}"),
        }
    }
}

fn event(datagram: &[u8]) -> Event {
    assert_eq!(datagram.len(), 76);
    Event::decode(datagram, ByteOrder::NATIVE).unwrap()
}

/// Returns the sequence numbers of the events.
fn seqs(datagrams: &[Vec<u8>]) -> Vec<u32> {
    datagrams.iter().map(|datagram| event(datagram).seq.0).collect()
}

fn is_ack(datagram: &[u8]) -> bool {
    event(datagram).body == EventBody::Ack { ack: 42, err: 0 }
}
