# SPDX-License-Identifier: MIT OR Apache-2.0
"""The result of a replay into a program."""
from __future__ import annotations

import shlex
import signal
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

#: Maximum number of lines of each output in a message.
_SHOWN_LINES = 20


@dataclass(frozen=True)
class RunWarning:
    """A reason why a run may have tested nothing, for example a fault that never fired."""

    #: A stable name, for example "fault_never_fired".
    code: str
    #: The same in words.
    message: str

    def __str__(self) -> str:
        return self.message


class Run:
    """What a program printed, how it ended, and what happened to it."""

    def __init__(
        self,
        command: List[str],
        stdout: str,
        stderr: str,
        report: Dict[str, Any],
        script: str = "",
    ) -> None:
        #: The command line of pmon.
        self.command = command
        #: Standard output of the program.
        self.stdout = stdout
        #: Standard error of the program and of pmon.
        self.stderr = stderr
        #: All facts: the JSON object of `pmon replay --report`, which docs/json.md of pmon describes.
        self.report = report
        #: The text of the fault script.
        self.script = script

    @property
    def exit_code(self) -> int:
        """The exit code of the program; 128 + N if signal N ended it, as in a shell."""
        code = self.report["exit_code"]
        return code if code is not None else 128 + self.report["signal"]

    @property
    def events(self) -> int:
        """The number of events that happened, whether the program received them or not."""
        return self.report["events_happened"]

    @property
    def received(self) -> int:
        """The number of events that the program received, on all its sockets together."""
        return self.report["events_received"]

    @property
    def overruns(self) -> int:
        """How often a receive call returned ENOBUFS."""
        return self.report["overruns"]

    @property
    def faults(self) -> List[Dict[str, Any]]:
        """The faults in the order of the script, each with how often it has `fired`."""
        return self.report["faults"]

    @property
    def warnings(self) -> List[RunWarning]:
        """The reasons why the run may have tested nothing."""
        return [RunWarning(warning["code"], warning["message"]) for warning in self.report["warnings"]]

    @property
    def ended(self) -> str:
        """How the program ended: "exited", "killed", "at_end" (after the last event), ..."""
        return self.report["ended"]

    @property
    def ok(self) -> bool:
        """Whether there are no :attr:`problems`."""
        return not self.problems

    @property
    def problems(self) -> List[str]:
        """The reasons why the run is not a valid, successful test, in words."""
        return self._problems(None)

    def check(self, exit_code: Optional[int] = None) -> Run:
        """Fail unless the run is a valid, successful test; return it.

        The program must exit with `exit_code`. By default, that is 0, and the final SIGINT may also
        end the program. There must be no warnings.
        """
        __tracebackhide__ = True
        problems = self._problems(exit_code)
        if problems:
            raise AssertionError(self._description(problems))
        return self

    def __repr__(self) -> str:
        return f"<Run of {self._program()}: {'; '.join(self.problems) or 'ok'}>"

    def _problems(self, expected: Optional[int]) -> List[str]:
        problems = [warning.message for warning in self.warnings]
        if self.report["damaged"]:
            problems.append("the capture is damaged; only its intact part was replayed")
        if self.ended == "limit":
            problems.append("the program had not ended when the limit was reached")
        elif self.ended == "interrupted":
            problems.append("the run was interrupted")
        number = self.report["signal"]
        is_interrupted = self.ended == "at_end" and self.report["sent_signal"] == signal.SIGINT
        if expected is not None:
            if self.exit_code != expected:
                problems.append(f"the program ended with {self._end()}, and not with {expected}")
        elif self.exit_code != 0 and not (is_interrupted and number == signal.SIGINT):
            problems.append(f"the program ended with {self._end()}")
        return problems

    def _end(self) -> str:
        number = self.report["signal"]
        return str(self.exit_code) if number is None else _signal_name(number)

    def _program(self) -> str:
        return shlex.join(self.command[self.command.index("--") + 1 :])

    def _description(self, problems: List[str]) -> str:
        parts = [f"{self._program()}: " + "; ".join(problems), f"run: {shlex.join(self.command)}"]
        for name, text in (("faults", self.script), ("stdout", self.stdout), ("stderr", self.stderr)):
            if text:
                parts.append(f"{name}:\n{_last_lines(text)}")
        return "\n\n".join(parts)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_lines(text: str) -> str:
    lines = text.splitlines()
    omitted = len(lines) - _SHOWN_LINES
    first = [f"  ... {omitted} lines ..."] if omitted > 0 else []
    return "\n".join(first + [f"  {line}" for line in lines[-_SHOWN_LINES:]])
