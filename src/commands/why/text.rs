//! Explanations as text.

use std::fmt::{Display, Write as _};

use pmon_analysis::cgroup::CgroupIdentity;
use pmon_analysis::life::{Ancestor, LifeEnd, Program};
use pmon_core::MonoNs;
use pmon_core::capture::SignalOrigin;

use super::{Explanation, unknown_parent};
use crate::output::{ended, printable};
use crate::query::{Cause, FollowedLife, command_line, miss_reason, precise_time};
use crate::terminal::{self, counted, grouped};
use crate::time_spec::brief;

/// Maximum number of matching processes that are listed.
const MAX_LISTED: usize = 20;
/// Maximum number of execs that are listed of a process.
const MAX_EXECS: usize = 5;

/// Returns the list of matches, if they are several, and the explanations. On a terminal, lines are
/// cut to its width.
pub(super) fn lines(explanation: &Explanation) -> String {
    let mut text = Text { explanation, out: String::new() };
    if explanation.count > 1 {
        text.matches();
    }
    for (number, of) in explanation.explained().enumerate() {
        if number > 0 || explanation.count > 1 {
            text.out.push('\n');
        }
        text.process(of);
    }
    let width = terminal::output_width();
    text.out.lines().flat_map(|line| [terminal::cut(line, width), "\n"]).collect()
}

struct Text<'a> {
    explanation: &'a Explanation,
    out: String,
}

impl Text<'_> {
    fn matches(&mut self) {
        let Explanation { matches, count, .. } = self.explanation;
        let _ = writeln!(self.out, "{}, the newest first:", counted(*count, "match"));
        for of in matches.iter().take(MAX_LISTED) {
            let command = command_line(of.life.program.get(), of.life.comm());
            let start = self.time(of.boot, of.life.start);
            let _ = writeln!(self.out, "  {start:<23}  {:>7}  {command}", of.life.pid);
        }
        let more = count.saturating_sub(MAX_LISTED as u64);
        if more > 0 {
            let _ = writeln!(self.out, "  and {} more", grouped(more));
        }
    }

    fn process(&mut self, of: &FollowedLife) {
        let of = self.explanation.latest(of);
        let life = &of.life;
        self.head(life.pid, life.program.get(), life.comm());
        self.start(of.boot, life.start);
        self.context(life.uid, life.program.get(), life.session);
        self.latest(of);
        let mut oldest = Some(life);
        for ancestor in life.ancestors() {
            self.out.push_str("started by\n");
            self.head(ancestor.pid, ancestor.program.get(), ancestor.comm());
            let cause = self.explanation.causes.get(ancestor.id).and_then(|cause| cause.life.as_ref());
            self.ancestor(ancestor, cause, of.boot);
            oldest = cause.map(|cause| &cause.life);
        }
        if let Some(ppid) = unknown_parent(oldest) {
            let _ = writeln!(self.out, "started by\n{ppid:>8}  an unknown process");
        }
    }

    fn ancestor(&mut self, ancestor: &Ancestor, known: Option<&FollowedLife>, boot: usize) {
        self.start(boot, ancestor.start);
        let session = known.and_then(|known| known.life.session);
        self.context(ancestor.uid, ancestor.program.get(), session);
        if let Some(known) = known {
            self.latest(known);
        }
    }

    fn head(&mut self, pid: u32, program: &Program, comm: Option<&[u8]>) {
        let _ = writeln!(self.out, "{pid:>8}  {}", command_line(program, comm));
        if let Some(unknown) = unknown(program) {
            self.line("unknown", unknown);
        }
    }

    fn line(&mut self, label: &str, value: impl Display) {
        let _ = writeln!(self.out, "{:8}  {label:<10}{value}", "");
    }

    fn start(&mut self, boot: usize, start: Option<MonoNs>) {
        let start = self.time(boot, start);
        self.line("started", start);
    }

    fn context(&mut self, uid: Option<(u32, u32)>, program: &Program, session: Option<u32>) {
        let named = |uid: u32| {
            let name = self.explanation.users.name(uid);
            name.map_or_else(|| uid.to_string(), |name| format!("{uid} ({name})"))
        };
        let mut user = match uid {
            Some((real, effective)) if real == effective => format!("uid {}", named(effective)),
            Some((real, effective)) => format!("uid {}, real uid {}", named(effective), named(real)),
            None => "uid unknown".into(),
        };
        match program.login_uid {
            Some(u32::MAX) => user.push_str(", no login"),
            Some(login) => user.push_str(&format!(", login uid {}", named(login))),
            None => user.push_str(", login unknown"),
        }
        self.line("user", user);
        let of = program.cgroup.as_deref().map(CgroupIdentity::of).unwrap_or_default();
        let names = program.container_names();
        let named = |what: &str, name: Option<&[u8]>| name.map(|name| format!("{what} {}", printable(name)));
        let parts = [
            named("unit", of.unit),
            named("user unit", of.user_unit),
            named("login session", of.session),
            named("container", of.container_id.as_deref()),
            named("named", names.container),
            named("pod", names.pod.or(of.pod_uid.as_deref())),
            named("namespace", names.namespace),
            named("image", names.image),
            session.map(|session| format!("session {session}")),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        if !parts.is_empty() {
            self.line("in", parts.join(", "));
        }
    }

    /// Appends what is known at the end of the recording.
    fn latest(&mut self, of: &FollowedLife) {
        let life = &of.life;
        let mut label = "executed";
        for (number, exec) in life.execs.iter().enumerate() {
            if number == MAX_EXECS {
                let more = (life.execs.len() - MAX_EXECS) as u64 + u64::from(life.omitted_execs);
                self.line("", format_args!("and {} more", grouped(more)));
                break;
            }
            let comm = (number + 1 == life.execs.len()).then(|| life.comm()).flatten();
            let (time, command) =
                (self.time(of.boot, Some(exec.time)), command_line(exec.program.get(), comm));
            self.line(std::mem::take(&mut label), format_args!("{time}  {command}"));
        }
        let lasted = life.observed_ns(of.now).map(brief);
        let after = lasted.as_ref().map(|lasted| format!(" after {lasted}")).unwrap_or_default();
        match life.end {
            LifeEnd::Running => self.line("running", format_args!("at the end of the recording{after}")),
            LifeEnd::Ended { time, status } => {
                let status = status.map_or_else(|| "status unknown".into(), |status| ended(status, life));
                let cpu = life.usage.as_ref().map(|usage| format!("{} CPU", brief(usage.cpu_ns)));
                let cpu = cpu.unwrap_or_else(|| "CPU time not recorded".into());
                let time = self.time(of.boot, Some(time));
                self.line("ended", format_args!("{time}{after}: {status}, {cpu}"));
                if let Some(SignalOrigin::Process { sender, .. }) =
                    life.signal.as_ref().map(|of| of.signal.origin)
                {
                    let name = printable(sender.comm.as_bytes());
                    self.line("sender", format_args!("{} {name}, uid {}", sender.pid, sender.uid));
                }
            }
            LifeEnd::Unobserved { after, before } => {
                let (after, before) = (self.time(of.boot, Some(after)), self.time(of.boot, Some(before)));
                self.line("ended", format_args!("not recorded: between {after} and {before}"));
            }
        }
        let parent = life.parent.as_ref().map(|parent| parent.pid);
        if let (Some(parent), Some(ppid)) = (parent, life.ppid)
            && parent != ppid
        {
            self.line("parent", format_args!("pid {ppid}, not the process that forked it"));
        }
        if let Some(cause) = self.explanation.causes.get(life.id) {
            self.children(cause);
        }
    }

    fn children(&mut self, cause: &Cause) {
        if cause.child_count == 0 {
            return;
        }
        let mut label = "forked";
        self.line(std::mem::take(&mut label), counted(cause.child_count, "process"));
        for child in &cause.children {
            let command = command_line(child.life.program.get(), child.life.comm());
            let time = self.time(child.boot, child.life.start);
            self.line(label, format_args!("{time}  {} {command}", child.life.pid));
        }
        let more = cause.child_count - cause.children.len() as u64;
        if more > 0 {
            self.line(label, format_args!("and {} more", grouped(more)));
        }
    }

    fn time(&self, boot: usize, time: Option<MonoNs>) -> String {
        let real_ns = time.and_then(|time| self.explanation.clock(boot)?.at(time));
        real_ns.map_or_else(|| "at an unknown time".into(), precise_time)
    }
}

/// States which texts of a program are unknown, and why; `None` if all are known.
fn unknown(program: &Program) -> Option<String> {
    if program.is_kernel_thread() {
        return None;
    }
    let texts = [
        ("command line", program.args.is_none()),
        ("executable", program.exe.is_none()),
        ("cgroup", program.cgroup.is_none()),
    ];
    let texts: Vec<_> = texts.into_iter().filter(|text| text.1).map(|text| text.0).collect();
    let why = program.miss.map_or("not recorded", miss_reason);
    (!texts.is_empty()).then(|| format!("{}: {why}", texts.join(", ")))
}
