# SPDX-License-Identifier: MIT OR Apache-2.0
"""The pmon command, as an object."""
from __future__ import annotations

import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from . import faults as fault_script
from .faults import Fault
from .run import Run

PathLike = Union[str, "os.PathLike[str]"]
#: A duration: a number of seconds, or a text such as "10ms".
Duration = Union[int, float, str]

#: Maximum duration of a replay, unless a test chooses another.
DEFAULT_LIMIT = "60s"


class PmonError(AssertionError):
    """pmon itself failed: the arguments, the capture or this system do not allow the run."""


class Pmon:
    """The pmon command, and a directory for the files of the tests."""

    def __init__(self, path: PathLike, directory: Path) -> None:
        self.path = os.fspath(path)
        self._directory = directory
        self._number = itertools.count(1)

    def __repr__(self) -> str:
        return f"Pmon({self.path!r})"

    def replay(
        self,
        capture: PathLike,
        program: Sequence[PathLike],
        *,
        faults: Union[str, Fault, Iterable[Fault]] = (),
        seed: int = 0,
        at_end: Optional[str] = None,
        timeout: Optional[Duration] = None,
        limit: Duration = DEFAULT_LIMIT,
        clock: Optional[str] = None,
        settle: bool = False,
        kind: Union[str, Iterable[str], None] = None,
        pid: Union[int, Iterable[int], None] = None,
        tree: Optional[int] = None,
        comm: Optional[str] = None,
        options: Sequence[PathLike] = (),
        cwd: Optional[PathLike] = None,
        env: Optional[Mapping[str, str]] = None,
        stdin: Union[str, bytes] = b"",
    ) -> Run:
        """Run a program on the events of a capture, and return its output and what happened.

        `faults` are values of this package or the text of a fault script. `kind`, `pid`, `tree` and
        `comm` select events: the others never happen. The program ends after the last event as
        `at_end` says ("signal", "eof" or "silence"), and in any case after `limit`. `options` are
        further options of `pmon replay`. `env` is added to the environment.
        """
        __tracebackhide__ = True
        if isinstance(program, (str, bytes, os.PathLike)):
            raise TypeError(f'the program is a list of arguments, for example ["./monitor", "-v"]; got {program!r}')
        number = next(self._number)
        report = self._directory / f"report-{number}.json"
        arguments = ["replay", os.fspath(capture), "--report", str(report), "--seed", str(seed)]
        arguments += ["--limit", _duration(limit), *(["--settle"] if settle else [])]
        script = fault_script.script(faults)
        if script:
            path = self._directory / f"faults-{number}.toml"
            path.write_text(script, encoding="utf-8")
            arguments += ["--faults", str(path)]
        for name, value in (
            ("--at-end", at_end),
            ("--timeout", None if timeout is None else _duration(timeout)),
            ("--clock", clock),
            ("--kind", _list(kind)),
            ("--pid", _list(pid)),
            ("--tree", tree),
            ("--comm", comm),
        ):
            if value is not None:
                arguments += [name, str(value)]
        arguments += [os.fspath(option) for option in options]
        arguments += ["--", *map(os.fspath, program)]
        command = [self.path, *arguments]
        exit_code, stdout, stderr = _execute(command, stdin, cwd, env)
        # pmon writes the report at the end of the run. Without one, there was no run.
        text = report.read_text(encoding="utf-8") if report.exists() else ""
        if not text:
            raise PmonError(_failure(command, exit_code, stderr))
        return Run(command, stdout, stderr, json.loads(text), script)

    def synth(self, path: Optional[PathLike] = None, **options: Any) -> Path:
        """Generate a synthetic capture: the options are those of `pmon synth`, without dashes.

        For example `synth(events="20k", profile="build", seed=7)`. The same options give the same
        capture. Without a path, it is a file in a temporary directory.
        """
        output = Path(path) if path is not None else self._directory / f"synth-{next(self._number)}.pmon"
        arguments = ["synth", "--quiet", "--force", "--output", str(output)]
        for name, value in options.items():
            arguments += [f"--{name.rstrip('_').replace('_', '-')}", str(value)]
        self._succeed(arguments)
        return output

    def record(self, program: Sequence[PathLike], path: Optional[PathLike] = None, **options: Any) -> Path:
        """Record the events of this machine while a program runs; returns the capture.

        The options are those of `pmon record`, without dashes: `record(["make"], tree=True)`.
        """
        output = Path(path) if path is not None else self._directory / f"recorded-{next(self._number)}.pmon"
        arguments = ["record", "--quiet", "--force", "--output", str(output)]
        for name, value in options.items():
            arguments += [f"--{name.rstrip('_').replace('_', '-')}", *([] if value is True else [str(value)])]
        self._succeed([*arguments, "--", *map(os.fspath, program)])
        return output

    def events(self, capture: PathLike, **selection: Any) -> List[dict]:
        """Return the events of a capture, as docs/json.md of pmon describes them.

        The selection is that of `pmon print`, for example `events(capture, kind="fork", pid=5071)`.
        """
        arguments = ["print", os.fspath(capture), "--format", "json"]
        for name, value in selection.items():
            arguments += [f"--{name.replace('_', '-')}", *([] if value is True else [_list(value)])]
        return [json.loads(line) for line in self._succeed(arguments).splitlines()]

    def _succeed(self, arguments: List[str]) -> str:
        __tracebackhide__ = True
        command = [self.path, *arguments]
        exit_code, stdout, stderr = _execute(command, b"", None, None)
        if exit_code != 0:
            raise PmonError(_failure(command, exit_code, stderr))
        return stdout


def _execute(
    command: List[str],
    stdin: Union[str, bytes],
    cwd: Optional[PathLike],
    env: Optional[Mapping[str, str]],
) -> Tuple[int, str, str]:
    """Run a command; return the exit code and the decoded output."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", **(env or {})},
    )
    try:
        stdout, stderr = process.communicate(stdin.encode() if isinstance(stdin, str) else stdin)
    except BaseException:
        # For example Ctrl-C. When pmon ends, the program is killed.
        process.kill()
        process.wait()
        raise
    return process.returncode, _text(stdout), _text(stderr)


def _text(output: bytes) -> str:
    return output.decode("utf-8", "backslashreplace")


def _failure(command: List[str], exit_code: int, stderr: str) -> str:
    return f"{' '.join(command[:2])} failed with exit code {exit_code}: {stderr.strip() or 'no message'}"


def _duration(value: Duration) -> str:
    if isinstance(value, str):
        return value
    return f"{round(value * 1000)}ms"


def _list(value: Any) -> Optional[str]:
    if value is None:
        return None
    if isinstance(value, (str, int)):
        return str(value)
    return ",".join(map(str, value))
