# SPDX-License-Identifier: MIT OR Apache-2.0
"""Programs under replay, and the runs that cannot have tested anything."""
import pytest

from pytest_pmon import PmonError, end, lose, overrun

def codes(run):
    return [warning.code for warning in run.warnings]


def test_a_program_receives_all_events(pmon, capture, consumer):
    run = pmon.replay(capture, [consumer], tree=4893)
    assert run.ok and run.check() is run
    assert run.exit_code == 0 and run.ended == "at_end"
    assert run.events == run.received == len(run.stdout.splitlines()) - 2  # the subscription, and SIGINT
    assert run.stdout.splitlines()[-1] == "interrupted"


def test_a_lost_fork_is_reported(pmon, capture, consumer):
    run = pmon.replay(capture, [consumer], tree=4893, faults=[lose(kind="fork", pid=5071)])
    assert run.check().stdout.count("ENOBUFS") == run.overruns == 1
    assert run.received == run.events - 1


def test_a_fault_that_never_fires_is_a_problem(pmon, capture, consumer):
    faults = [overrun(2, at=3), lose(kind="fork", pid=50711)]
    run = pmon.replay(capture, [consumer], tree=4893, faults=faults)
    assert not run.ok
    assert codes(run) == ["fault_never_fired"]
    assert [fault["fired"] for fault in run.faults] == [1, 0]
    with pytest.raises(AssertionError, match="50711"):
        run.check()


def test_an_empty_selection_is_a_problem(pmon, capture, consumer):
    run = pmon.replay(capture, [consumer], pid=99)
    assert "selection_empty" in codes(run) and not run.ok


@pytest.mark.parametrize(
    ("mode", "code"), [("open", "never_subscribed"), ("subscribe", "received_nothing"), (None, "no_socket")]
)
def test_a_program_that_receives_nothing_is_a_problem(pmon, capture, consumer, mode, code):
    run = pmon.replay(capture, [consumer, mode] if mode else ["true"])
    assert code in codes(run) and not run.ok and run.exit_code == 0


def test_the_exit_code_of_the_program_is_checked(pmon, capture, consumer):
    run = pmon.replay(capture, [consumer, "fail"])
    assert run.exit_code == 3 and run.ended == "exited"
    run.check(exit_code=3)
    for exit_code in (None, 0, 4):
        with pytest.raises(AssertionError, match="ended with 3"):
            run.check(exit_code)


def test_a_program_killed_by_a_signal_is_a_problem(pmon, capture):
    run = pmon.replay(capture, ["sh", "-c", "kill -SEGV $$"])
    assert run.exit_code == 128 + 11
    assert "the program ended with SIGSEGV" in run.problems


def test_the_limit_ends_a_program_that_never_waits(pmon, capture, consumer):
    run = pmon.replay(capture, [consumer, "spin"], limit=0.5, timeout="100ms")
    assert not run.ok and run.ended == "limit"


def test_a_program_may_settle_before_the_first_event(pmon, capture, consumer):
    run = pmon.replay(capture, [consumer], tree=4893, settle=True)
    assert run.check().report["settled"] is True


def test_a_fault_script_may_be_a_text(pmon, capture, consumer):
    run = pmon.replay(capture, [consumer], tree=4893, faults='[[fault]]\nat = 2\nlose = "1..1"\n')
    assert run.check().overruns == 1


def test_the_end_may_be_the_end_of_the_file(pmon, capture, consumer):
    run = pmon.replay(capture, [consumer], tree=4893, at_end="eof")
    assert "interrupted" not in run.check().stdout


def test_a_fault_may_end_the_input(pmon, capture, consumer):
    run = pmon.replay(capture, [consumer], faults=[end(at=5)])
    assert run.check().received == 5


def test_the_same_seed_repeats_a_run(pmon, capture, consumer):
    faults = [lose("1..9", chance=0.2)]
    runs = [pmon.replay(capture, [consumer], tree=4893, faults=faults, seed=seed) for seed in (1, 1, 2)]
    assert runs[0].stdout == runs[1].stdout != runs[2].stdout


def test_environment_directory_and_input_reach_the_program(pmon, capture, tmp_path):
    program = ["sh", "-c", "echo $GREETING; pwd; cat"]
    run = pmon.replay(capture, program, env={"GREETING": "hello"}, cwd=tmp_path, stdin="input")
    assert run.stdout == f"hello\n{tmp_path}\ninput"


def test_bytes_that_are_not_text_are_escaped(pmon, capture):
    assert pmon.replay(capture, ["printf", r"a\377"]).stdout == "a\\xff"


def test_the_message_of_a_failure_repeats_the_run(pmon, capture):
    with pytest.raises(AssertionError) as failure:
        pmon.replay(capture, ["sh", "-c", "echo out; echo err >&2; exit 7"], faults=[lose(at=1)]).check()
    message = str(failure.value)
    for part in ("ended with 7", f"{pmon.path} replay", "lose = 1", "  out", "  err"):
        assert part in message, message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"capture": "missing.pmon"}, "missing.pmon"),
        ({"program": ["./missing"]}, "missing"),
        ({"faults": "[[fault]]\nat = 1\n"}, "action"),
        ({"at_end": "never"}, "never"),
        ({"kind": ["fork", "spoon"]}, "spoon"),
    ],
)
def test_pmon_itself_fails_with_its_message(pmon, capture, arguments, message):
    arguments = {"capture": capture, "program": ["true"], **arguments}
    with pytest.raises(PmonError, match=message):
        pmon.replay(**arguments)


def test_the_program_is_a_list(pmon, capture):
    with pytest.raises(TypeError, match="list"):
        pmon.replay(capture, "./monitor -v")


def test_the_events_of_a_capture_are_readable(pmon, capture):
    forks = pmon.events(capture, kind="fork", pid=5071)
    assert forks[0]["child_pid"] == 5071 and {fork["kind"] for fork in forks} == {"fork"}


def test_the_same_options_generate_the_same_capture(pmon, tmp_path):
    first = pmon.synth(tmp_path / "first.pmon", events="1k", seed=7)
    assert first.read_bytes() == pmon.synth(events="1k", seed=7).read_bytes()
    assert first.read_bytes() != pmon.synth(events="1k", seed=8).read_bytes()
