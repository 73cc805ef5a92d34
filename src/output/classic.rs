//! The output of the common C example for the proc connector, byte for byte.

use pmon_analysis::TimelineItem;
use pmon_core::Task;
use pmon_core::wire::EventBody;

use super::{Render, RenderContext, push_number};

/// Writes events in the order of arrival, including those of threads. The format has no lines for
/// losses and blind times.
pub(crate) struct ClassicRenderer;

impl Render for ClassicRenderer {
    fn event(&mut self, item: &TimelineItem, _: RenderContext<'_>, out: &mut Vec<u8>) {
        let mut line = ClassicLine(out);
        match item.event.map(|event| event.body) {
            Some(EventBody::Ack { .. }) => line.text("set mcast listen ok"),
            Some(EventBody::Fork { parent, child }) => {
                line.text("fork: parent ").task(parent).text(" -> child ").task(child)
            }
            Some(EventBody::Exec { task }) => line.text("exec: ").task(task),
            Some(EventBody::Uid { task, real, effective }) => {
                line.text("uid change: ").task(task).text(" from ").int(real).text(" to ").int(effective)
            }
            Some(EventBody::Gid { task, real, effective }) => {
                line.text("gid change: ").task(task).text(" from ").int(real).text(" to ").int(effective)
            }
            Some(EventBody::Exit { task, code, .. }) => {
                line.text("exit: ").task(task).text(" exit_code=").int(code)
            }
            _ => line.text("unhandled proc event"),
        };
        out.push(b'\n');
    }
}

struct ClassicLine<'a>(&'a mut Vec<u8>);

impl ClassicLine<'_> {
    fn text(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// Appends a number like `%d` in C.
    fn int(&mut self, number: u32) -> &mut Self {
        push_number(self.0, number as i32);
        self
    }

    fn task(&mut self, task: Task) -> &mut Self {
        self.text("tid=").int(task.tid.0).text(" pid=").int(task.tgid.0)
    }
}
