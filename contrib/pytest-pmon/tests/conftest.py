# SPDX-License-Identifier: MIT OR Apache-2.0
"""Programs and captures for the tests of the plugin."""
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def capture(pmon):
    """A capture of 20,000 events, 51 of them in the tree of process 4893, which forks process 5071."""
    return pmon.synth(events="20k")


@pytest.fixture
def consumer():
    """A program that prints the events it receives."""
    return str(Path(__file__).with_name("consumer.py"))
