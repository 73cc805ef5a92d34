//! A wire's consumer, as programs are that take a file descriptor.

mod pumped;
mod served;

use std::os::fd::AsFd;

use pmon_core::wire::{ByteOrder, Event, EventBody, SubscribeOp, SubscribeRequest};
use pmon_fake::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Asks for all events.
fn listen(consumer: impl AsFd) {
    request(consumer, SubscribeOp::Listen);
}

fn request(consumer: impl AsFd, operation: SubscribeOp) {
    let request = SubscribeRequest::new(operation, 41).encode(0, ByteOrder::NATIVE);
    assert_eq!(send(consumer, &request, SendFlags::NOSIGNAL), Ok(request.len()));
}

/// One `recv`.
fn next(consumer: impl AsFd, flags: RecvFlags) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 1 << 18];
    let (len, _) = recv(consumer, &mut buffer[..], flags)?;
    buffer.truncate(len);
    Ok(buffer)
}

/// All that is there now: the datagrams up to `EAGAIN`, or up to the end, of which it says whether it has come.
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

/// The numbers of the events, which are all of one CPU; the first of all datagrams may be an acknowledgement.
fn numbers(datagrams: &[Vec<u8>]) -> Vec<u32> {
    datagrams.iter().map(|datagram| event(datagram).seq.0).collect()
}

fn is_ack(datagram: &[u8]) -> bool {
    event(datagram).body == EventBody::Ack { ack: 42, err: 0 }
}
