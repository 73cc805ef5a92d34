//! The kernel's count of listeners. Each scenario begins while it is zero.

use crate::differential::table::request::{IGNORE, INVALID, LISTEN, RawRequest};
use crate::differential::table::run::{Scenario, ScenarioRun};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "no listener", without_listeners: true, perform: no_listener },
    Scenario { name: "a listener closed without IGNORE", without_listeners: true, perform: closed },
    Scenario { name: "the only listener ignores", without_listeners: true, perform: only },
    Scenario { name: "all listeners ignore", without_listeners: true, perform: all },
    Scenario {
        name: "all members ignore, but the count is not zero",
        without_listeners: true,
        perform: counted,
    },
    Scenario { name: "no member, but the count is not zero", without_listeners: true, perform: no_member },
    Scenario { name: "LISTEN twice, IGNORE once", without_listeners: true, perform: twice },
    Scenario { name: "LISTEN, invalid, LISTEN", without_listeners: true, perform: doubled },
    Scenario { name: "IGNORE first", without_listeners: true, perform: ignore_first },
    Scenario { name: "a count below zero", without_listeners: true, perform: below },
    Scenario { name: "an invalid request without listeners", without_listeners: true, perform: invalid },
];

fn requests(run: &mut ScenarioRun<'_>, operations: &[u32]) {
    let socket = run.member();
    for (n, &operation) in operations.iter().enumerate() {
        run.send(socket, &RawRequest::new(operation));
        run.rename(1);
        let received = run.received(socket);
        run.note(format!("request {n}, {operation}: it receives"), received);
        let received = run.witness();
        run.note(format!("request {n}, {operation}: another receives"), received);
    }
}

fn no_listener(run: &mut ScenarioRun<'_>) {
    let member = run.member();
    run.rename(3);
    let received = run.received(member);
    run.note("three events", received);
    run.send(member, &RawRequest::new(LISTEN));
    let received = run.received(member);
    run.note("LISTEN", received);
}

fn closed(run: &mut ScenarioRun<'_>) {
    let listener = run.listener();
    run.close(listener);
    run.rename(2);
    let received = run.witness();
    run.note("a member that sent no request", received);
}

fn only(run: &mut ScenarioRun<'_>) {
    requests(run, &[LISTEN, IGNORE, LISTEN]);
}

fn all(run: &mut ScenarioRun<'_>) {
    let (one, two) = (run.listener(), run.listener());
    run.witness();
    for (label, socket) in [("one ignores", one), ("two ignores", two)] {
        run.send(socket, &RawRequest::new(IGNORE));
        run.rename(1);
        for (who, socket) in [("one", one), ("two", two)] {
            let received = run.received(socket);
            run.note(format!("{label}: {who}"), received);
        }
        let received = run.witness();
        run.note(format!("{label}: another"), received);
    }
    run.send(one, &RawRequest::new(LISTEN));
    let received = run.received(one);
    run.note("one listens again", received);
}

fn counted(run: &mut ScenarioRun<'_>) {
    let gone = run.listener();
    run.close(gone);
    let one = run.member();
    run.send(one, &RawRequest::new(IGNORE));
    run.witness();
    run.rename(3);
    let received = run.received(one);
    run.note("one that ignores", received);
    let received = run.witness();
    run.note("a member that sent no request", received);
}

fn no_member(run: &mut ScenarioRun<'_>) {
    let gone = run.listener();
    run.close(gone);
    run.witness();
    run.without_witness(|run| run.rename(3));
    let numbers = run.numbers(0);
    run.note("numbers used, one by the listener", numbers);
}

fn twice(run: &mut ScenarioRun<'_>) {
    requests(run, &[LISTEN, LISTEN, IGNORE, IGNORE, LISTEN]);
}

fn doubled(run: &mut ScenarioRun<'_>) {
    requests(run, &[LISTEN, INVALID, LISTEN, IGNORE, INVALID, IGNORE]);
}

fn ignore_first(run: &mut ScenarioRun<'_>) {
    requests(run, &[IGNORE, IGNORE, LISTEN]);
}

fn below(run: &mut ScenarioRun<'_>) {
    requests(run, &[INVALID, IGNORE, INVALID, IGNORE, LISTEN]);
    for n in ["second", "third"] {
        let socket = run.member();
        run.send(socket, &RawRequest::new(LISTEN));
        let received = run.received(socket);
        run.note(format!("a {n} LISTEN"), received);
    }
}

fn invalid(run: &mut ScenarioRun<'_>) {
    requests(run, &[INVALID, LISTEN]);
}
