# SPDX-License-Identifier: MIT OR Apache-2.0
"""Faults become fault scripts."""
import pytest

from pytest_pmon import blind, end, eintr, error, forge, hold, lose, lose_until, overrun, place
from pytest_pmon.faults import script


@pytest.mark.parametrize(
    ("fault", "toml"),
    [
        (lose(kind="fork", pid=5071), 'at = { kind = "fork", pid = 5071 }\nlose = 1\n'),
        (lose(3, at=12), "at = 12\nlose = 3\n"),
        (lose("1..5", comm="make", nth=2), 'at = { comm = "make", nth = 2 }\nlose = "1..5"\n'),
        (lose_until(place(kind="exec"), at=4), 'at = 4\nlose_until = { kind = "exec" }\n'),
        (lose_until({"pid": 7}, at=4), "at = 4\nlose_until = { pid = 7 }\n"),
        (overrun(5, at=1000, cpu=1), "at = 1000\ncpu = 1\noverrun = 5\n"),
        (eintr("1..3", chance=0.01), 'chance = 0.01\neintr = "1..3"\n'),
        (overrun(5, kind="exec", cpu=1), 'cpu = 1\nat = { kind = "exec" }\noverrun = 5\n'),
        (hold(4, kind="exit", every=2), 'every = 2\nof = { kind = "exit" }\nhold = 4\n'),
        (blind(2, every=10, from_=50), "every = 10\nfrom = 50\nblind = 2\n"),
        (forge(at=1), "at = 1\nforge = true\n"),
        (end(at=7), "at = 7\nend = true\n"),
        (error("ENOMEM", at=0), 'at = 0\nerror = "ENOMEM"\n'),
        (lose(args='a "quoted" \\w+\n\x7f'), 'at = { args = "a \\"quoted\\" \\\\w+\\n\\u007f" }\nlose = 1\n'),
    ],
)
def test_a_fault_becomes_a_table(fault, toml):
    assert fault.toml() == f"[[fault]]\n{toml}"


def test_faults_keep_their_order():
    assert script([lose(at=1), forge(at=0)]) == "[[fault]]\nat = 1\nlose = 1\n\n[[fault]]\nat = 0\nforge = true\n"


def test_one_fault_needs_no_list():
    assert script(lose(at=1)) == script([lose(at=1)])


def test_a_text_is_a_script():
    assert script("# nothing") == "# nothing"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lose(), "when"),
        (lambda: lose(cpu=1), "when"),
        (lambda: lose(pids=5071), "no argument 'pids'"),
        (lambda: lose(at=1, kind="fork"), "either"),
        (lambda: lose_until({}, at=1), "none"),
        (lambda: lose_until(place(king="fork"), at=1), "king"),
        (lambda: script(lose([1], at=1)), "list"),
    ],
)
def test_a_wrong_fault_is_refused(call, message):
    with pytest.raises(TypeError, match=message):
        call()
