//! Events to datagrams.

use super::byte_order::ByteOrder;
use super::event::{Event, EventBody};
use super::layout::{self, EVENT_DATAGRAM_LEN, PROC_EVENT_LEN};
use super::{CN_IDX_PROC, CN_VAL_PROC, NLMSG_DONE};
use crate::ids::Task;

impl Event {
    /// Returns the datagram in which a kernel sends this event; `None` for [`EventBody::Unknown`],
    /// whose data are not in the event.
    ///
    /// A parent that is `None` becomes zeros, as in the datagrams of Linux 3.2 to 4.17.
    #[inline]
    pub fn encode(&self, order: ByteOrder) -> Option<[u8; EVENT_DATAGRAM_LEN]> {
        let mut datagram = [0; EVENT_DATAGRAM_LEN];
        self.encode_into(order, &mut datagram).then_some(datagram)
    }

    /// Writes the datagram of [`Event::encode`] into `datagram`; returns `false` if there is none.
    ///
    /// This avoids a copy right after the fields were written one by one, which takes longer than
    /// writing them on most CPUs.
    #[inline]
    pub fn encode_into(&self, order: ByteOrder, datagram: &mut [u8; EVENT_DATAGRAM_LEN]) -> bool {
        match order {
            ByteOrder::Little => self.encode_as(ByteOrder::Little, datagram),
            ByteOrder::Big => self.encode_as(ByteOrder::Big, datagram),
        }
    }

    #[inline(always)]
    fn encode_as(&self, order: ByteOrder, datagram: &mut [u8; EVENT_DATAGRAM_LEN]) -> bool {
        let Some(what) = self.kind().what() else { return false };
        datagram.fill(0);
        order.put_u16(&mut datagram[layout::NLMSG_TYPE], NLMSG_DONE);
        order.put_u16(&mut datagram[layout::CN_LEN], PROC_EVENT_LEN as u16);
        order.put_u64(&mut datagram[layout::TIMESTAMP_NS], self.time.0);
        if let EventBody::Comm { comm, .. } = &self.body {
            datagram[layout::COMM].copy_from_slice(&comm.0);
        }
        let mut put = |at: usize, value: u32| order.put_u32(&mut datagram[at..at + 4], value);
        put(layout::NLMSG_LEN.start, EVENT_DATAGRAM_LEN as u32);
        put(layout::NLMSG_SEQ.start, self.seq.0);
        put(layout::CN_IDX.start, CN_IDX_PROC);
        put(layout::CN_VAL.start, CN_VAL_PROC);
        put(layout::CN_SEQ.start, self.seq.0);
        put(layout::WHAT.start, what);
        put(layout::CPU.start, self.cpu.0);
        let mut put_task = |at: usize, task: Task| {
            put(at, task.tid.0);
            put(at + 4, task.tgid.0);
        };
        match self.body {
            EventBody::Ack { ack, err } => {
                put(layout::CN_ACK.start, ack);
                put(layout::ACK_ERR.start, err);
            }
            EventBody::Fork { parent, child } => {
                put_task(layout::TASK.start, parent);
                put_task(layout::FORK_CHILD.start, child);
            }
            EventBody::Exec { task } | EventBody::Sid { task } | EventBody::Comm { task, .. } => {
                put_task(layout::TASK.start, task);
            }
            EventBody::Uid { task, real, effective } | EventBody::Gid { task, real, effective } => {
                put_task(layout::TASK.start, task);
                put(layout::REAL_ID.start, real);
                put(layout::EFFECTIVE_ID.start, effective);
            }
            EventBody::Ptrace { task, tracer } => {
                put_task(layout::TASK.start, task);
                put_task(layout::TRACER.start, tracer);
            }
            EventBody::Coredump { task, parent } => {
                put_task(layout::TASK.start, task);
                put_task(layout::COREDUMP_PARENT.start, parent.unwrap_or_default());
            }
            EventBody::Exit { task, code, signal, parent } => {
                put_task(layout::TASK.start, task);
                put_task(layout::EXIT_PARENT.start, parent.unwrap_or_default());
                put(layout::EXIT_CODE.start, code);
                put(layout::EXIT_SIGNAL.start, signal);
            }
            EventBody::Unknown { .. } => {}
        }
        true
    }
}
