//! The fields of a record, which have the same names in JSON and CSV.

use pmon_analysis::life::LifeRef;
use pmon_analysis::{ProcessExit, TimelineItem, WaitStatus};
use pmon_core::Task;
use pmon_core::capture::{Blind, Details, Loss, MissReason, ProcessState, SignalOrigin, Unobserved, Usage};
use pmon_core::wire::{Event, EventBody, EventKind};

use super::identity::Identities;
use super::timestamps::TimestampWriter;
use super::{Number, RenderContext, push_hex, push_number, push_status};

/// The names of all fields: the header line of CSV. New ones are added at the end. No record has a
/// value for `text` any more.
pub(super) const HEADER: &str = "\
kind,time,mono_ns,cpu,seq,pid,tid,child_pid,child_tid,comm,exe,args,ppid,uid,exit_code,\
exit_signal,status,parent_pid,parent_tid,ruid,euid,rgid,egid,tracer_pid,tracer_tid,count,\
first_seq,last_seq,cause,text,after_mono_ns,before_mono_ns,ack,err,what,frame,blind_ns,\
filename,cwd,cgroup,gid,start_ticks,parent_start_ticks,args_len,login_uid,session,group,\
cgroup_id,pid_ns,ns_pid,missed,cpu_us,user_us,system_us,max_rss_kib,minor_faults,major_faults,\
read_bytes,write_bytes,other_threads,usage_at_least,process_ended,process_exit_code,\
process_status,process_cpu_us,process_id,parent_process_id,child_process_id,unit,container_id,\
pod_uid,code,term_signal,duration_ns,oom_killed,signal_origin,signal_code,\
signal_sender_process_id,signal_sender_pid,signal_sender_comm,signal_sender_uid,container,pod,\
namespace,image";

/// A field of a record.
#[derive(Clone, Copy)]
pub(super) struct OutputField {
    /// The name as a key of a JSON object, with the comma before it: `,"cpu":`.
    pub(super) key: &'static str,
    /// The index in [`HEADER`].
    pub(super) index: usize,
}

/// Returns the field with a name; an unknown name does not compile.
macro_rules! field {
    ($name:literal) => {
        const { OutputField { key: concat!(",\"", $name, "\":"), index: index_of($name) } }
    };
}

const fn index_of(name: &str) -> usize {
    let (mut header, mut index) = (HEADER.as_bytes(), 0);
    while !is_first(header, name.as_bytes()) {
        header = after_comma(header);
        index += 1;
    }
    index
}

/// Whether `name` is the whole text before the first comma.
const fn is_first(mut header: &[u8], mut name: &[u8]) -> bool {
    while let ([x, rest_of_header @ ..], [y, rest_of_name @ ..]) = (header, name) {
        if *x != *y {
            return false;
        }
        (header, name) = (rest_of_header, rest_of_name);
    }
    name.is_empty() && matches!(header, [] | [b',', ..])
}

const fn after_comma(mut header: &[u8]) -> &[u8] {
    while let [byte, rest @ ..] = header {
        header = rest;
        if *byte == b',' {
            return header;
        }
    }
    panic!("no such field")
}

/// Writes the fields of one record. A field without a value is null in JSON and empty in CSV.
///
/// The functions are always inlined: the keys then have known lengths, so that no function is
/// called to copy them.
pub(super) trait FieldWriter {
    /// Adds a number or boolean, which `write` appends.
    fn bare(&mut self, field: OutputField, write: Option<impl FnOnce(&mut Vec<u8>)>);
    /// Adds a string, which `write` appends and which needs no escapes.
    fn plain(&mut self, field: OutputField, write: Option<impl FnOnce(&mut Vec<u8>)>);
    /// Adds a string from an untrusted source.
    fn text(&mut self, field: OutputField, text: Option<&[u8]>);
    /// Adds the arguments of a program, each of which ends with a zero byte.
    fn args(&mut self, field: OutputField, args: Option<&[u8]>);

    #[inline(always)]
    fn optional(&mut self, field: OutputField, number: Option<impl Number>) {
        self.bare(field, number.map(|number| move |out: &mut Vec<u8>| push_number(out, number)));
    }

    #[inline(always)]
    fn number(&mut self, field: OutputField, number: impl Number) {
        self.optional(field, Some(number));
    }

    #[inline(always)]
    fn flag(&mut self, field: OutputField, value: Option<bool>) {
        let text = value.map(|value| if value { "true" } else { "false" });
        self.bare(field, text.map(|text| |out: &mut Vec<u8>| out.extend_from_slice(text.as_bytes())));
    }

    #[inline(always)]
    fn name(&mut self, field: OutputField, name: Option<&str>) {
        self.plain(field, name.map(|name| |out: &mut Vec<u8>| out.extend_from_slice(name.as_bytes())));
    }

    #[inline(always)]
    fn status(&mut self, field: OutputField, raw: Option<u32>) {
        let write = |raw| move |out: &mut Vec<u8>| push_status(out, WaitStatus::from_raw(raw));
        self.plain(field, raw.map(write));
    }

    #[inline(always)]
    fn tasks(&mut self, pid: OutputField, tid: OutputField, task: Option<Task>) {
        self.optional(pid, task.map(|task| task.tgid.0));
        self.optional(tid, task.map(|task| task.tid.0));
    }
}

/// What the fields of events need to be written fast.
pub(super) struct EventFields {
    timestamps: TimestampWriter,
    identities: Identities,
}

impl EventFields {
    /// Creates the state for the first event. Times are in UTC.
    pub(super) fn new() -> Self {
        Self { timestamps: TimestampWriter::utc(), identities: Identities::default() }
    }
}

/// Writes the fields of an event.
pub(super) fn event(
    fields: &mut impl FieldWriter,
    state: &mut EventFields,
    item: &TimelineItem,
    context: RenderContext<'_>,
) {
    let EventFields { timestamps, identities } = state;
    let event = item.event.as_ref();
    let kind = event.map_or(EventKind::Unknown, |event| event.kind());
    fields.name(field!("kind"), Some(kind.name()));
    fields.optional(field!("cpu"), event.map(|event| event.cpu.0));
    fields.optional(field!("seq"), event.map(|event| event.seq.0));
    fields.optional(field!("mono_ns"), event.map(|event| event.time.0));
    let real_ns = event.and_then(|event| context.wall.at(event.time));
    let time = real_ns.map(|real_ns| {
        move |out: &mut Vec<u8>| {
            timestamps.push(out, real_ns, 9);
            out.push(b'Z');
        }
    });
    fields.plain(field!("time"), time);
    let body = event.map(|event| event.body);
    let task = match body {
        Some(EventBody::Fork { parent, .. }) => Some(parent),
        _ => event.and_then(Event::task),
    };
    fields.tasks(field!("pid"), field!("tid"), task);
    match body {
        Some(EventBody::Ack { ack, err }) => {
            fields.number(field!("ack"), ack);
            fields.number(field!("err"), err);
        }
        Some(EventBody::Fork { child, .. }) => {
            fields.tasks(field!("child_pid"), field!("child_tid"), Some(child));
        }
        Some(EventBody::Exec { .. }) => exec(fields, item.details.as_deref()),
        Some(EventBody::Uid { real, effective, .. }) => {
            fields.number(field!("ruid"), real);
            fields.number(field!("euid"), effective);
        }
        Some(EventBody::Gid { real, effective, .. }) => {
            fields.number(field!("rgid"), real);
            fields.number(field!("egid"), effective);
        }
        Some(EventBody::Ptrace { tracer, .. }) => {
            fields.tasks(field!("tracer_pid"), field!("tracer_tid"), Some(tracer));
        }
        Some(EventBody::Comm { comm, .. }) => fields.text(field!("comm"), Some(comm.as_bytes())),
        Some(EventBody::Coredump { parent, .. }) => {
            fields.tasks(field!("parent_pid"), field!("parent_tid"), parent);
        }
        Some(EventBody::Exit { task, code, signal, parent }) => {
            fields.number(field!("exit_code"), code);
            fields.number(field!("exit_signal"), signal as i32);
            fields.status(field!("status"), Some(code));
            fields.tasks(field!("parent_pid"), field!("parent_tid"), parent);
            usage(fields, task, item.usage.as_deref());
            process(fields, task, code, item, context);
        }
        Some(EventBody::Unknown { what }) => unknown(fields, Some(what), item),
        None => unknown(fields, None, item),
        _ => {}
    }
    if task.is_some() {
        program(fields, body, context.life, identities);
    }
    if let Some(EventBody::Fork { .. }) = body {
        fields.optional(field!("child_process_id"), context.child.map(|id| id.0));
    }
}

/// Writes which process the event is of, unless the fields of its kind do.
fn program(
    fields: &mut impl FieldWriter,
    body: Option<EventBody>,
    life: Option<LifeRef<'_>>,
    identities: &mut Identities,
) {
    let program = life.map(|life| life.program);
    fields.optional(field!("process_id"), life.map(|life| life.id.0));
    let parent = life.and_then(|life| life.parent_id);
    fields.optional(field!("parent_process_id"), parent.map(|id| id.0));
    if !matches!(body, Some(EventBody::Exec { .. } | EventBody::Comm { .. })) {
        fields.text(field!("comm"), life.and_then(|life| life.comm()));
    }
    if !matches!(body, Some(EventBody::Exec { .. })) {
        fields.text(field!("exe"), program.and_then(|program| program.exe.as_deref()));
    }
    let identity = identities.of(program.and_then(|program| program.cgroup.as_ref()));
    fields.text(field!("unit"), identity.unit.as_deref());
    fields.text(field!("container_id"), identity.container_id.as_deref());
    fields.text(field!("pod_uid"), identity.pod_uid.as_deref());
    let names = program.map(|program| program.container_names()).unwrap_or_default();
    fields.text(field!("container"), names.container);
    fields.text(field!("pod"), names.pod);
    fields.text(field!("namespace"), names.namespace);
    fields.text(field!("image"), names.image);
}

fn unknown(fields: &mut impl FieldWriter, what: Option<u32>, item: &TimelineItem) {
    fields.optional(field!("what"), what);
    let raw = item.raw.as_deref().unwrap_or_default();
    fields.plain(field!("frame"), Some(|out: &mut Vec<u8>| push_hex(out, raw)));
}

/// Writes the details of a process after an exec.
fn exec(fields: &mut impl FieldWriter, details: Option<&Details>) {
    fields.text(field!("comm"), details.and_then(|details| details.comm.as_deref()));
    fields.text(field!("exe"), details.and_then(|details| details.exe.as_deref()));
    fields.text(field!("filename"), details.and_then(|details| details.filename.as_deref()));
    fields.text(field!("cwd"), details.and_then(|details| details.cwd.as_deref()));
    fields.text(field!("cgroup"), details.and_then(|details| details.cgroup.as_deref()));
    fields.args(field!("args"), details.and_then(|details| details.args.as_deref()));
    let ids = details.and_then(|details| details.ids);
    let member = details.and_then(|details| details.context);
    let args_len =
        |details: &Details| details.args_len.or(details.args.as_ref().map(|args| args.len() as u64));
    fields.optional(field!("ppid"), details.and_then(|details| details.ppid));
    fields.optional(field!("uid"), ids.map(|ids| ids.uid));
    fields.optional(field!("euid"), ids.map(|ids| ids.euid));
    fields.optional(field!("gid"), ids.map(|ids| ids.gid));
    fields.optional(field!("egid"), ids.map(|ids| ids.egid));
    fields.optional(field!("start_ticks"), details.and_then(|details| details.start_ticks));
    fields.optional(field!("parent_start_ticks"), details.and_then(|details| details.parent_start_ticks));
    fields.optional(field!("args_len"), details.and_then(args_len));
    fields
        .optional(field!("login_uid"), member.map(|member| member.login_uid).filter(|&uid| uid != u32::MAX));
    fields.optional(field!("session"), member.map(|member| member.session));
    fields.optional(field!("group"), member.map(|member| member.group));
    fields.optional(field!("cgroup_id"), member.map(|member| member.cgroup).filter(|&cgroup| cgroup != 0));
    fields.optional(
        field!("pid_ns"),
        member.map(|member| member.pid_namespace).filter(|&namespace| namespace != 0),
    );
    fields.optional(field!("ns_pid"), member.map(|member| member.pid));
    fields.name(field!("missed"), details.and_then(|details| details.miss).map(MissReason::name));
}

/// Writes the resources that a task used until its exit.
fn usage(fields: &mut impl FieldWriter, task: Task, usage: Option<&Usage>) {
    // Every process has used some memory, so 0 means unknown.
    let max_rss_kib = usage.filter(|usage| {
        usage.max_rss_kib > 0 || !task.is_leader() && !matches!(usage.process, ProcessState::Ended { .. })
    });
    fields.optional(field!("start_ticks"), usage.map(|usage| usage.start_ticks));
    fields.optional(field!("cpu_us"), usage.map(|usage| usage.cpu_us));
    fields.optional(field!("user_us"), usage.map(|usage| usage.user_us));
    fields.optional(field!("system_us"), usage.map(|usage| usage.system_us));
    fields.optional(field!("max_rss_kib"), max_rss_kib.map(|usage| usage.max_rss_kib));
    fields.optional(field!("minor_faults"), usage.map(|usage| usage.minor_faults));
    fields.optional(field!("major_faults"), usage.map(|usage| usage.major_faults));
    fields.optional(field!("read_bytes"), usage.map(|usage| usage.read_bytes));
    fields.optional(field!("write_bytes"), usage.map(|usage| usage.write_bytes));
    fields.optional(field!("other_threads"), usage.map(|usage| usage.threads));
    fields.flag(field!("usage_at_least"), usage.map(|usage| usage.at_least));
}

/// Writes the state of the process after the exit of a task, from the process table, or else from
/// the recorder's observation.
fn process(
    fields: &mut impl FieldWriter,
    task: Task,
    code: u32,
    item: &TimelineItem,
    context: RenderContext<'_>,
) {
    let usage = item.usage.as_deref();
    let exit = context.exit().or_else(|| match usage?.process_state(task.is_leader(), code) {
        ProcessState::Alive => Some(ProcessExit::GoesOn),
        ProcessState::Ended { status } => Some(ProcessExit::Ended { status }),
        _ => None,
    });
    let (has_ended, status) = match exit {
        Some(ProcessExit::GoesOn) => (Some(false), None),
        Some(ProcessExit::Ended { status }) => (Some(true), Some(status)),
        Some(ProcessExit::Unknown) | None => (None, None),
    };
    let of_process =
        usage.filter(|usage| status.is_some() && matches!(usage.process, ProcessState::Ended { .. }));
    fields.flag(field!("process_ended"), has_ended);
    fields.optional(field!("process_exit_code"), status);
    fields.status(field!("process_status"), status);
    fields.optional(field!("process_cpu_us"), of_process.map(|usage| usage.process_cpu_us));
    let (code, signal) = match WaitStatus::from_raw(status.unwrap_or(code)) {
        WaitStatus::Exited(code) => (Some(code), None),
        WaitStatus::Killed { signal, .. } => (None, Some(signal)),
    };
    fields.optional(field!("code"), code);
    fields.optional(field!("term_signal"), signal);
    fatal_signal(fields, status.map(WaitStatus::from_raw), usage, context);
    let life = context.life.filter(|_| status.is_some());
    fields.optional(field!("duration_ns"), life.and_then(|life| life.duration_ns()));
    let args = context.life.and_then(|life| life.program.args.as_deref());
    fields.args(field!("args"), args);
}

/// Writes where the signal came from that killed a process. `status` is that of the process;
/// `None` if it goes on, or if that is unknown.
fn fatal_signal(
    fields: &mut impl FieldWriter,
    status: Option<WaitStatus>,
    usage: Option<&Usage>,
    context: RenderContext<'_>,
) {
    let is_killed = matches!(status, Some(WaitStatus::Killed { .. }));
    let signal = usage.map(|usage| usage.fatal_signal).filter(|_| is_killed);
    let is_oom_kill = status.and_then(|status| status.is_oom_kill(signal.as_ref()));
    let (origin, code, sender) = match signal.map(|signal| signal.origin) {
        Some(SignalOrigin::Process { code, sender }) => (Some("process"), Some(code), Some(sender)),
        Some(SignalOrigin::Kernel { code }) => (Some("kernel"), Some(code), None),
        Some(SignalOrigin::Unknown) | None => (None, None, None),
    };
    let sender_id = context.life.and_then(|life| life.signal?.sender_id);
    fields.flag(field!("oom_killed"), is_oom_kill);
    fields.name(field!("signal_origin"), origin);
    fields.optional(field!("signal_code"), code);
    fields.optional(field!("signal_sender_process_id"), sender.and(sender_id).map(|id| id.0));
    fields.optional(field!("signal_sender_pid"), sender.map(|sender| sender.pid));
    fields.text(field!("signal_sender_comm"), sender.as_ref().map(|sender| sender.comm.as_bytes()));
    fields.optional(field!("signal_sender_uid"), sender.map(|sender| sender.uid));
}

/// Writes the fields of a loss.
pub(super) fn loss(fields: &mut impl FieldWriter, loss: &Loss) {
    fields.name(field!("kind"), Some("loss"));
    fields.number(field!("cpu"), loss.cpu.0);
    fields.number(field!("count"), loss.count());
    fields.number(field!("first_seq"), loss.first.0);
    fields.number(field!("last_seq"), loss.last.0);
    fields.name(field!("cause"), Some(loss.cause.name()));
    fields.number(field!("after_mono_ns"), loss.after.0);
    fields.number(field!("before_mono_ns"), loss.before.0);
}

/// Writes the fields of a blind time.
pub(super) fn blind(fields: &mut impl FieldWriter, blind: &Blind) {
    fields.name(field!("kind"), Some("blind"));
    fields.number(field!("blind_ns"), blind.length_ns());
    fields.number(field!("after_mono_ns"), blind.from.0);
    fields.number(field!("before_mono_ns"), blind.until.0);
}

/// Writes the fields of an unobserved time.
pub(super) fn unobserved(fields: &mut impl FieldWriter, span: &Unobserved) {
    fields.name(field!("kind"), Some("unobserved"));
    fields.name(field!("cause"), Some(span.reason.name()));
    fields.number(field!("after_mono_ns"), span.from.0);
    fields.number(field!("before_mono_ns"), span.until.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_found_by_its_name() {
        for (index, name) in HEADER.split(',').enumerate() {
            assert_eq!(index_of(name), index, "{name}");
        }
        assert_eq!(field!("process_cpu_us").key, ",\"process_cpu_us\":");
    }
}
