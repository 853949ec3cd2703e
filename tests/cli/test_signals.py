"""Which signals end a command."""

from __future__ import annotations

import os
import signal

import pytest

from neuroclips_cli.cli import signals


@pytest.fixture
def hangup_restored():
    """Give SIGHUP back the handler that it had, and forget the signals that a test sent."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)
    with signals.stoppable():
        pass


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_each_signal_ends_the_block_with_its_exit_code(name, hangup_restored):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(signals.Stopped), signals.stoppable():
        os.kill(os.getpid(), number)
    assert signals.exit_code() == 128 + number
    assert signal.getsignal(number) == before


def test_a_command_under_nohup_survives_the_end_of_its_terminal(hangup_restored):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals.stoppable():
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    with pytest.raises(signals.Stopped), signals.stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
