//! The kernel's count of listeners. Each begins while it counts none.

use crate::differential::table::request::{IGNORE, INVALID, LISTEN, Raw};
use crate::differential::table::scene::{Scenario, Scene};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "nobody listens", from_silence: true, play: nobody },
    Scenario { name: "a listener closed without IGNORE", from_silence: true, play: closed },
    Scenario { name: "the only listener ignores", from_silence: true, play: only },
    Scenario { name: "all listeners ignore", from_silence: true, play: all },
    Scenario { name: "all members ignore, but somebody is counted", from_silence: true, play: counted },
    Scenario { name: "no member, but somebody is counted", from_silence: true, play: no_member },
    Scenario { name: "LISTEN twice, IGNORE once", from_silence: true, play: twice },
    Scenario { name: "LISTEN, invalid, LISTEN", from_silence: true, play: doubled },
    Scenario { name: "IGNORE first", from_silence: true, play: ignore_first },
    Scenario { name: "fewer than none", from_silence: true, play: below },
    Scenario { name: "invalid, while nobody listens", from_silence: true, play: invalid },
];

fn requests(scene: &mut Scene<'_>, operations: &[u32]) {
    let socket = scene.member();
    for (n, &operation) in operations.iter().enumerate() {
        scene.send(socket, &Raw::new(operation));
        scene.rename(1);
        let heard = scene.heard(socket);
        scene.note(format!("request {n}, {operation}: it hears"), heard);
        let heard = scene.witness();
        scene.note(format!("request {n}, {operation}: another hears"), heard);
    }
}

fn nobody(scene: &mut Scene<'_>) {
    let member = scene.member();
    scene.rename(3);
    let heard = scene.heard(member);
    scene.note("three events", heard);
    scene.send(member, &Raw::new(LISTEN));
    let heard = scene.heard(member);
    scene.note("LISTEN", heard);
}

fn closed(scene: &mut Scene<'_>) {
    let listener = scene.listener();
    scene.close(listener);
    scene.rename(2);
    let heard = scene.witness();
    scene.note("a member that asked for nothing", heard);
}

fn only(scene: &mut Scene<'_>) {
    requests(scene, &[LISTEN, IGNORE, LISTEN]);
}

fn all(scene: &mut Scene<'_>) {
    let (one, two) = (scene.listener(), scene.listener());
    scene.witness();
    for (what, socket) in [("one ignores", one), ("two ignores", two)] {
        scene.send(socket, &Raw::new(IGNORE));
        scene.rename(1);
        for (who, socket) in [("one", one), ("two", two)] {
            let heard = scene.heard(socket);
            scene.note(format!("{what}: {who}"), heard);
        }
        let heard = scene.witness();
        scene.note(format!("{what}: another"), heard);
    }
    scene.send(one, &Raw::new(LISTEN));
    let heard = scene.heard(one);
    scene.note("one listens again", heard);
}

fn counted(scene: &mut Scene<'_>) {
    let gone = scene.listener();
    scene.close(gone);
    let one = scene.member();
    scene.send(one, &Raw::new(IGNORE));
    scene.witness();
    scene.rename(3);
    let heard = scene.heard(one);
    scene.note("one that ignores", heard);
    let heard = scene.witness();
    scene.note("a member that asked for nothing", heard);
}

fn no_member(scene: &mut Scene<'_>) {
    let gone = scene.listener();
    scene.close(gone);
    scene.witness();
    scene.without_witness(|scene| scene.rename(3));
    let numbers = scene.numbers(0);
    scene.note("numbers taken, one by the listener", numbers);
}

fn twice(scene: &mut Scene<'_>) {
    requests(scene, &[LISTEN, LISTEN, IGNORE, IGNORE, LISTEN]);
}

fn doubled(scene: &mut Scene<'_>) {
    requests(scene, &[LISTEN, INVALID, LISTEN, IGNORE, INVALID, IGNORE]);
}

fn ignore_first(scene: &mut Scene<'_>) {
    requests(scene, &[IGNORE, IGNORE, LISTEN]);
}

fn below(scene: &mut Scene<'_>) {
    requests(scene, &[INVALID, IGNORE, INVALID, IGNORE, LISTEN]);
    for n in ["second", "third"] {
        let socket = scene.member();
        scene.send(socket, &Raw::new(LISTEN));
        let heard = scene.heard(socket);
        scene.note(format!("a {n} LISTEN"), heard);
    }
}

fn invalid(scene: &mut Scene<'_>) {
    requests(scene, &[INVALID, LISTEN]);
}
