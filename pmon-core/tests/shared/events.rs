//! Events of every kind, with any numbers.

use pmon_core::wire::{Comm, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task};
use proptest::prelude::*;

pub(crate) fn any_event() -> impl Strategy<Value = Event> {
    let task = || (any::<u32>(), any::<u32>()).prop_map(|(tid, tgid)| Task::new(tid, tgid));
    let body = prop_oneof![
        any::<(u32, u32)>().prop_map(|(ack, err)| EventBody::Ack { ack, err }),
        (task(), task()).prop_map(|(parent, child)| EventBody::Fork { parent, child }),
        task().prop_map(|task| EventBody::Exec { task }),
        (task(), any::<(u32, u32)>()).prop_map(|(task, (real, effective))| EventBody::Uid {
            task,
            real,
            effective
        }),
        (task(), any::<(u32, u32)>()).prop_map(|(task, (real, effective))| EventBody::Gid {
            task,
            real,
            effective
        }),
        task().prop_map(|task| EventBody::Sid { task }),
        (task(), task()).prop_map(|(task, tracer)| EventBody::Ptrace { task, tracer }),
        (task(), any::<[u8; 16]>()).prop_map(|(task, comm)| EventBody::Comm { task, comm: Comm(comm) }),
        (task(), task()).prop_map(|(task, parent)| EventBody::Coredump { task, parent: Some(parent) }),
        (task(), any::<(u32, u32)>(), task()).prop_map(|(task, (code, signal), parent)| {
            EventBody::Exit { task, code, signal, parent: Some(parent) }
        }),
    ];
    (any::<(u64, u32, u32)>(), body).prop_map(|((time, seq, cpu), body)| Event {
        time: MonoNs(time),
        seq: Seq(seq),
        cpu: Cpu(cpu),
        body,
    })
}
