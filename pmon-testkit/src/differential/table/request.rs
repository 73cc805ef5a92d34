//! Requests to the proc connector, valid and invalid.

/// A request, field by field, in the native byte order.
#[derive(Clone, Debug)]
pub(crate) struct RawRequest {
    /// `nlmsghdr.nlmsg_len`; `None` stands for the actual length.
    pub(crate) nlmsg_len: Option<u32>,
    pub(crate) nlmsg_type: u16,
    pub(crate) nlmsg_flags: u16,
    /// `cn_msg.id`.
    pub(crate) id: (u32, u32),
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    /// `cn_msg.len`; `None` stands for the length of the payload.
    pub(crate) len: Option<u16>,
    pub(crate) flags: u16,
    pub(crate) payload: Vec<u8>,
    /// Bytes after the message.
    pub(crate) trailing: Vec<u8>,
}

pub(crate) const LISTEN: u32 = 1;
pub(crate) const IGNORE: u32 = 2;
/// An operation that the kernel does not have.
pub(crate) const INVALID: u32 = 7;
/// `cn_msg.ack` of requests that do not specify it.
pub(crate) const ACK: u32 = 0x00d1_ff00;

impl RawRequest {
    /// Creates a request without an event mask.
    pub(crate) fn new(operation: u32) -> Self {
        Self::with_payload(&operation.to_ne_bytes())
    }

    /// Creates a request with an event mask.
    pub(crate) fn masked(operation: u32, mask: u32) -> Self {
        Self::with_payload(&[operation.to_ne_bytes(), mask.to_ne_bytes()].concat())
    }

    /// Creates a request with that payload.
    pub(crate) fn with_payload(payload: &[u8]) -> Self {
        Self {
            nlmsg_len: None,
            nlmsg_type: 3,
            nlmsg_flags: 0,
            id: (1, 1),
            seq: 0x5eed,
            ack: ACK,
            len: None,
            flags: 0,
            payload: payload.into(),
            trailing: Vec::new(),
        }
    }

    /// Encodes the request.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let len = 36 + self.payload.len();
        let mut bytes = Vec::with_capacity(len + self.trailing.len());
        bytes.extend(self.nlmsg_len.unwrap_or(len as u32).to_ne_bytes());
        bytes.extend(self.nlmsg_type.to_ne_bytes());
        bytes.extend(self.nlmsg_flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(self.id.0.to_ne_bytes());
        bytes.extend(self.id.1.to_ne_bytes());
        bytes.extend(self.seq.to_ne_bytes());
        bytes.extend(self.ack.to_ne_bytes());
        bytes.extend(self.len.unwrap_or(self.payload.len() as u16).to_ne_bytes());
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend(&self.payload);
        bytes.extend(&self.trailing);
        bytes
    }
}
