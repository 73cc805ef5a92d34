# SPDX-License-Identifier: MIT OR Apache-2.0
"""Tests consumers of Linux process events: programs under `pmon replay`, with the fixture `pmon`.

.. code-block:: python

    from pytest_pmon import lose

    def test_a_lost_fork_is_reported(pmon):
        run = pmon.replay("night.pmon", ["./monitor", "-v"], faults=[lose(kind="fork", pid=5071)])
        assert "events were lost" in run.check().stdout
"""
from .faults import (
    Fault,
    blind,
    burst,
    eagain,
    eintr,
    end,
    error,
    foreign_ack,
    forge,
    hold,
    lose,
    lose_until,
    no_memory,
    noop,
    overflow,
    overrun,
    place,
    step,
    truncate,
    unknown,
)
from .pmon import Pmon, PmonError
from .run import Run, RunWarning

__all__ = [
    "Fault",
    "Pmon",
    "PmonError",
    "Run",
    "RunWarning",
    "blind",
    "burst",
    "eagain",
    "eintr",
    "end",
    "error",
    "foreign_ack",
    "forge",
    "hold",
    "lose",
    "lose_until",
    "no_memory",
    "noop",
    "overflow",
    "overrun",
    "place",
    "step",
    "truncate",
    "unknown",
]
