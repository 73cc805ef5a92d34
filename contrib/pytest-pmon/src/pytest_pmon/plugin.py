# SPDX-License-Identifier: MIT OR Apache-2.0
"""The hooks and the fixture of the plugin."""
from __future__ import annotations

import os
import shutil
from typing import Optional

import pytest

from .pmon import Pmon


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pmon", "process events")
    group.addoption(
        "--pmon",
        metavar="PATH",
        help="the pmon command [default: the environment variable PMON, or else pmon on the PATH]",
    )


def find_pmon(option: Optional[str]) -> str:
    """Return the path of the pmon command; the option precedes the variable PMON and the PATH."""
    for source, name in (("--pmon", option), ("the variable PMON", os.environ.get("PMON"))):
        if name:
            found = shutil.which(name)
            if found is None:
                pytest.fail(f"{source} names {name!r}, which is not an executable file", pytrace=False)
            return os.path.abspath(found)
    found = shutil.which("pmon")
    if found is None:
        pytest.fail("pmon is not on the PATH: install it, or use --pmon PATH or the variable PMON", pytrace=False)
    return os.path.abspath(found)


@pytest.fixture(scope="session")
def pmon(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Pmon:
    """Runs programs on recorded process events: `pmon.replay(CAPTURE, PROGRAM, faults=[...])`."""
    return Pmon(find_pmon(pytestconfig.getoption("--pmon")), tmp_path_factory.mktemp("pmon"))
