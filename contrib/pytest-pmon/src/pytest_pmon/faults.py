# SPDX-License-Identifier: MIT OR Apache-2.0
"""Faults of a replay, as Python values that become a fault script.

Each function returns one fault. Its keyword arguments say when the fault happens:

- ``at=1000``: before the event with this number;
- ``kind="fork", pid=5071``: before the first event that matches all these keys
  (``kind``, ``pid``, ``tid``, ``parent``, ``comm``, ``args``); with ``nth=3``, before the third;
- ``every=100``, from event ``from_=50`` on: before every hundredth event;
- ``chance=0.01``: before each event, with this probability. With keys such as ``kind="fork"``, only
  the events that match them count for ``every`` and ``chance``.

``cpu=1`` chooses the CPU. A count is a number, or a range such as ``"1..50"``, from which the seed
selects. docs/fake-kernel.md of pmon documents each key.
"""
from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping, Union

Count = Union[int, str]

#: Keys that select events.
PLACE_KEYS = ("kind", "pid", "tid", "parent", "comm", "args", "nth")
#: Other keys that say when and where a fault happens, as keyword arguments.
WHEN_KEYS = ("at", "every", "from_", "chance", "cpu")


@dataclass(frozen=True)
class Fault:
    """A fault: an action, and when it happens."""

    action: str
    value: Any
    when: Mapping[str, Any] = field(default_factory=dict)

    def toml(self) -> str:
        """Return the fault as a table of a fault script."""
        lines = [f"{key} = {_toml(value)}" for key, value in self.when.items()]
        return "\n".join(["[[fault]]", *lines, f"{self.action} = {_toml(self.value)}", ""])


def place(**keys: Any) -> dict[str, Any]:
    """Return a place: the first event that matches all keys, or with ``nth`` a later one."""
    unknown = [key for key in keys if key not in PLACE_KEYS]
    if unknown or not keys:
        raise TypeError(f"a place has the keys {', '.join(PLACE_KEYS)}; got {', '.join(unknown) or 'none'}")
    return keys


def lose(count: Count = 1, **when: Any) -> Fault:
    """Lose the next events: they happen, but do not arrive, and each listener gets ENOBUFS."""
    return _fault("lose", count, when)


def lose_until(until: Mapping[str, Any], **when: Any) -> Fault:
    """Lose all events up to a :func:`place`."""
    return _fault("lose_until", place(**until), when)


def overrun(count: Count, **when: Any) -> Fault:
    """Drop additional events, as if each buffer were full: a gap, and ENOBUFS."""
    return _fault("overrun", count, when)


def no_memory(count: Count, **when: Any) -> Fault:
    """Drop additional events for lack of kernel memory: a gap without ENOBUFS."""
    return _fault("no_memory", count, when)


def burst(count: Count, **when: Any) -> Fault:
    """Let more events happen at once; they can overrun a buffer."""
    return _fault("burst", count, when)


def blind(count: Count, **when: Any) -> Fault:
    """Do not emit the next events: a loss without any trace."""
    return _fault("blind", count, when)


def hold(count: Count, **when: Any) -> Fault:
    """Deliver the next event after as many later events of other CPUs."""
    return _fault("hold", count, when)


def eintr(count: Count = 1, **when: Any) -> Fault:
    """Interrupt the next receive calls: EINTR."""
    return _fault("eintr", count, when)


def eagain(count: Count = 1, **when: Any) -> Fault:
    """Let the next nonblocking receive calls fail with EAGAIN, although an event is queued."""
    return _fault("eagain", count, when)


def truncate(length: Count, **when: Any) -> Fault:
    """Truncate the next datagram to this number of bytes."""
    return _fault("truncate", length, when)


def error(errno: Union[int, str], **when: Any) -> Fault:
    """Send an NLMSG_ERROR message with this errno, by number or by name."""
    return _fault("error", errno, when)


def unknown(what: int, **when: Any) -> Fault:
    """Emit an event of this unknown kind."""
    return _fault("unknown", what, when)


def step(duration: Count, **when: Any) -> Fault:
    """Advance the kernel's clock: a number of ns, or a duration such as "10ms"."""
    return _fault("step", duration, when)


def foreign_ack(**when: Any) -> Fault:
    """Acknowledge a subscription of another listener."""
    return _fault("foreign_ack", True, when)


def forge(**when: Any) -> Fault:
    """Let a process send a datagram that looks like an event."""
    return _fault("forge", True, when)


def noop(**when: Any) -> Fault:
    """Send an NLMSG_NOOP message."""
    return _fault("noop", True, when)


def overflow(**when: Any) -> Fault:
    """Send an NLMSG_OVERRUN message."""
    return _fault("overflow", True, when)


def end(**when: Any) -> Fault:
    """End the input: receive calls return 0."""
    return _fault("end", True, when)


def script(faults: Union[str, Fault, Iterable[Fault]]) -> str:
    """Return the TOML text of a fault script; a text is returned as it is."""
    if isinstance(faults, str):
        return faults
    if isinstance(faults, Fault):
        return faults.toml()
    return "\n".join(fault.toml() for fault in faults)


def _fault(action: str, value: Any, when: Mapping[str, Any]) -> Fault:
    unknown = [key for key in when if key not in PLACE_KEYS + WHEN_KEYS]
    if unknown:
        raise TypeError(f"{action}() has no argument {unknown[0]!r}; it takes {', '.join(WHEN_KEYS + PLACE_KEYS)}")
    keys = {key.rstrip("_"): value for key, value in when.items() if key in WHEN_KEYS}
    selected = {key: value for key, value in when.items() if key in PLACE_KEYS}
    if selected:
        if "at" in keys:
            raise TypeError(f"{action}() takes either `at` or the keys of an event, such as {next(iter(selected))!r}")
        keys["of" if "every" in keys or "chance" in keys else "at"] = selected
    if not any(key in keys for key in ("at", "every", "chance")):
        raise TypeError(f'{action}() needs to know when: for example at=10, kind="fork", every=100 or chance=0.01')
    return Fault(action, value, keys)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        # A JSON string is a TOML string, apart from DEL, which TOML requires to be escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    raise TypeError(f"a fault has no value of type {type(value).__name__}: {value!r}")
