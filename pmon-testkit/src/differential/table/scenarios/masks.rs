//! Kernel masks: which events come, who hears the ack, and which numbers are taken.

use crate::differential::table::host::{Act, Deed, End};
use crate::differential::table::request::{IGNORE, LISTEN, Raw};
use crate::differential::table::scene::{Scenario, Scene};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "masks", from_silence: false, play: masks },
    Scenario { name: "a mask put on and off", from_silence: false, play: on_and_off },
    Scenario { name: "what a mask keeps away fills no buffer", from_silence: false, play: buffer },
];

const MASKS: [u32; 24] = [
    0,
    0x1,
    0x2,
    0x4,
    0x8,
    0x10,
    0x40,
    0x80,
    0x100,
    0x200,
    0x3c7,
    0x3ff,
    0x1_0000,
    0x2000_0000,
    0x2000_0001,
    0x2000_0200,
    0x4000_0000,
    0x8000_0000,
    0x8000_0001,
    0xa000_0000,
    0xe000_03c6,
    0xe000_03c7,
    0x7fff_ffff,
    0xffff_ffff,
];

const DEEDS: [Deed; 5] = [
    Deed::Rename,
    Deed::Child { does: &[Act::Session, Act::Group, Act::User], ends: End::Code(0) },
    Deed::Child { does: &[], ends: End::Code(3) },
    Deed::Child { does: &[], ends: End::Killed },
    Deed::Child { does: &[], ends: End::Aborted },
];

fn masks(scene: &mut Scene<'_>) {
    for mask in MASKS {
        let before = scene.numbers(0);
        scene.witness();
        let socket = scene.member();
        scene.send(socket, &Raw::masked(LISTEN, mask));
        let heard = scene.heard(socket);
        scene.note(format!("{mask:#x}: the ack, to itself"), heard);
        let heard = scene.witness();
        scene.note(format!("{mask:#x}: the ack, to another"), heard);
        for deed in DEEDS {
            scene.host().act(0, deed);
        }
        let heard = scene.heard(socket);
        scene.note(format!("{mask:#x}: events"), heard);
        scene.note_memory(format!("{mask:#x}: memory"), socket);
        scene.close(socket);
        let numbers = scene.numbers(0) - before;
        scene.note(format!("{mask:#x}: numbers taken"), numbers);
    }
}

fn on_and_off(scene: &mut Scene<'_>) {
    let socket = scene.listener();
    let requests = [
        ("a mask of SID", Raw::masked(LISTEN, 0x80)),
        ("a mask of COMM", Raw::masked(LISTEN, 0x200)),
        ("IGNORE with a mask of COMM", Raw::masked(IGNORE, 0x200)),
        ("a mask of COMM again", Raw::masked(LISTEN, 0x200)),
        ("LISTEN", Raw::new(LISTEN)),
        ("an invalid operation with a mask of SID", Raw::masked(5, 0x80)),
        ("an invalid operation with a mask of COMM", Raw::masked(5, 0x200)),
    ];
    for (what, request) in requests {
        scene.send(socket, &request);
        scene.rename(1);
        let heard = scene.heard(socket);
        scene.note(what, heard);
        let heard = scene.witness();
        scene.note(format!("{what}, to another"), heard);
    }
}

fn buffer(scene: &mut Scene<'_>) {
    let socket = scene.listener_with(1, false);
    scene.send(socket, &Raw::masked(LISTEN, 0x80));
    scene.rename(10);
    scene.note_memory("ten events that are masked", socket);
    scene.host().act(0, Deed::Child { does: &[Act::Session], ends: End::Code(0) });
    let heard = scene.heard(socket);
    scene.note("one that is not", heard);
}
