//! `recv`: peeking, short buffers, and what the bytes are.

use crate::differential::table::host::{Act, Deed, End};
use crate::differential::table::request::{INVALID, LISTEN, Raw};
use crate::differential::table::scene::{Scenario, Scene};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "recv on an empty queue", from_silence: false, play: empty },
    Scenario { name: "MSG_PEEK, MSG_TRUNC and short buffers", from_silence: false, play: short },
    Scenario { name: "MSG_PEEK and short buffers at an overrun", from_silence: false, play: overrun },
    Scenario { name: "peeking at the last datagram while congested", from_silence: false, play: peek_last },
    Scenario { name: "what the bytes are", from_silence: false, play: words },
    Scenario { name: "numbers of two CPUs", from_silence: false, play: two_cpus },
];

const FLAGS: [(&str, i32); 4] = [
    ("", 0),
    (" TRUNC", libc::MSG_TRUNC),
    (" PEEK", libc::MSG_PEEK),
    (" PEEK|TRUNC", libc::MSG_PEEK | libc::MSG_TRUNC),
];

fn empty(scene: &mut Scene<'_>) {
    let socket = scene.listener();
    for (name, flags) in FLAGS {
        for len in [0, 76] {
            let heard = scene.recv_by(socket, len, flags);
            scene.note(format!("{len} B{name}"), heard);
        }
    }
    let heard = scene.recv_by(socket, 76, libc::MSG_OOB);
    scene.note("76 B OOB", heard);
}

fn short(scene: &mut Scene<'_>) {
    for len in [0, 1, 16, 75, 76, 77, 4096] {
        for (name, flags) in FLAGS {
            let socket = scene.listener();
            scene.rename(2);
            let heard = scene.recv_by(socket, len, flags);
            scene.note(format!("{len} B{name}"), lengths(&heard));
            scene.note_memory(format!("{len} B{name}, memory"), socket);
            scene.close(socket);
        }
    }
}

/// Without the number, which says how many scenes there were before.
fn lengths(heard: &str) -> String {
    heard.split(' ').filter(|word| !word.starts_with('#')).collect::<Vec<_>>().join(" ")
}

fn overrun(scene: &mut Scene<'_>) {
    for (name, flags) in FLAGS {
        let socket = scene.listener_with(1, false);
        scene.rename(5);
        for n in ["1st", "2nd", "3rd", "4th"] {
            let heard = scene.recv_by(socket, 10, flags);
            scene.note(format!("{n} recv, 10 B{name}"), heard);
            scene.note_memory(format!("{n} recv, 10 B{name}, memory"), socket);
        }
        scene.rename(1);
        scene.note_memory(format!("then an event{name}"), socket);
        scene.close(socket);
    }
}

fn peek_last(scene: &mut Scene<'_>) {
    let socket = scene.listener_with(1, false);
    scene.rename(3);
    for n in ["1st", "2nd"] {
        let heard = scene.recv(socket);
        scene.note(format!("{n} recv"), heard);
    }
    let heard = scene.recv_by(socket, 76, libc::MSG_PEEK);
    scene.note("peek", heard);
    scene.rename(1);
    scene.note_memory("an event", socket);
    let heard = scene.heard(socket);
    scene.note("the rest", heard);
}

fn words(scene: &mut Scene<'_>) {
    let socket = scene.member();
    scene.send(socket, &Raw::new(LISTEN));
    scene.rename(1);
    scene.send(socket, &Raw::new(INVALID));
    let mut times = Vec::new();
    for what in ["an ack", "COMM", "an ack of what is invalid"] {
        match scene.receive(socket, 128, 0) {
            Ok(received) => {
                let words = scene.names().words(&received.bytes);
                scene.note(what, words);
                times.extend(received.bytes[44..52].try_into().map(u64::from_ne_bytes));
            }
            Err(errno) => scene.note(what, errno),
        }
    }
    scene.note("their times ascend", times.len() == 3 && times[0] > 0 && times.is_sorted());
    scene.host().act(0, Deed::Child { does: &[Act::Session, Act::Group, Act::User], ends: End::Code(3) });
    let heard = scene.heard(socket);
    scene.note("a child that exits", heard);
    scene.host().act(0, Deed::Child { does: &[], ends: End::Killed });
    let heard = scene.heard(socket);
    scene.note("a child that is killed", heard);
    scene.host().act(0, Deed::Child { does: &[], ends: End::Aborted });
    let heard = scene.heard(socket);
    scene.note("a child that aborts", heard);
}

fn two_cpus(scene: &mut Scene<'_>) {
    if scene.host().cpus() < 2 {
        return;
    }
    let socket = scene.listener();
    for cpu in [0, 1, 1, 0, 1] {
        scene.host().act(cpu, Deed::Rename);
    }
    let heard = scene.heard(socket);
    scene.note("read", heard);
}
