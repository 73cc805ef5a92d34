# SPDX-License-Identifier: MIT OR Apache-2.0
"""How the plugin finds pmon."""
import os

import pytest

# Where the plugin is installed, pytest loads it by itself.
PLUGINS = ("-p", "pytest_pmon.plugin") if os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD") else ()
TEST = "def test(pmon): assert pmon.path == {path!r}"


@pytest.fixture
def run_test(pytester, monkeypatch):
    """Runs a test of its own in a pytest of its own, without pmon in the environment."""
    monkeypatch.delenv("PMON", raising=False)
    monkeypatch.setenv("PATH", str(pytester.path / "bin"))

    def run(path, *arguments):
        pytester.makepyfile(TEST.format(path=str(path)))
        return pytester.runpytest_inprocess(*PLUGINS, *arguments)

    return run


@pytest.fixture
def make_program(pytester):
    def make(name):
        path = pytester.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return path

    return make


def test_pmon_is_found_on_the_path(run_test, make_program):
    run_test(make_program("bin/pmon")).assert_outcomes(passed=1)


def test_the_variable_precedes_the_path(run_test, make_program, monkeypatch):
    make_program("bin/pmon")
    monkeypatch.setenv("PMON", str(make_program("other/pmon")))
    run_test(make_program("other/pmon")).assert_outcomes(passed=1)


def test_the_option_precedes_the_variable(run_test, make_program, monkeypatch):
    monkeypatch.setenv("PMON", str(make_program("other/pmon")))
    chosen = make_program("chosen/pmon")
    run_test(chosen, "--pmon", str(chosen)).assert_outcomes(passed=1)


def test_a_relative_path_is_made_absolute(run_test, make_program):
    run_test(make_program("chosen/pmon"), "--pmon", "chosen/pmon").assert_outcomes(passed=1)


@pytest.mark.parametrize("arguments", [(), ("--pmon", "missing/pmon")])
def test_a_missing_pmon_fails_the_test_with_advice(run_test, arguments):
    result = run_test("/pmon", *arguments)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*--pmon*"])


def test_the_option_is_in_the_help(pytester):
    result = pytester.runpytest_inprocess(*PLUGINS, "--help")
    result.stdout.fnmatch_lines(["*--pmon=PATH*"])
