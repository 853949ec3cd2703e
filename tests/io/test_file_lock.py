"""Leases where a file system gives no locks: another machine's dead writer, and a lost lease."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import pytest
from filelock import Timeout

from neuroclips_cli.io import file_lock


@pytest.fixture(autouse=True)
def without_locks(monkeypatch):
    """Refuse ``flock``, and let leases end soon."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    monkeypatch.setattr(file_lock, "LEASE_S", 1.0)
    monkeypatch.setattr(file_lock, "RENEWED_S", 0.1)


def of_another_machine(lease: Path, age_s: float) -> None:
    """Leave a lease as a writer on another machine does."""
    guard = file_lock.acquire(lease.with_suffix(".lock"), 0)
    content = lease.read_text()
    guard.release()
    lease.write_text(content.replace(f"host={os.uname().nodename}", "host=elsewhere"))
    then = time.time() - age_s
    os.utime(lease, (then, then))


def test_a_dead_writer_of_another_machine_is_replaced_after_the_lease(tmp_path):
    of_another_machine(tmp_path / "a.lease", age_s=50)
    began = time.monotonic()
    file_lock.acquire(tmp_path / "a.lock", 0.05).release()
    assert time.monotonic() - began > 0.9


def test_a_writer_of_another_machine_that_renews_its_lease_is_left_alone(tmp_path):
    of_another_machine(tmp_path / "a.lease", age_s=0)
    with pytest.raises(Timeout):
        file_lock.acquire(tmp_path / "a.lock", 0.05)
    assert "host=elsewhere" in (tmp_path / "a.lease").read_text()


@pytest.fixture
def signals_restored():
    """Give SIGINT and SIGTERM back the handlers that they had."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def lose_a_lease(folder: Path, exception: type[BaseException]) -> None:
    guard = file_lock.acquire(folder / "a.lock", 0)
    lease = folder / "a.lease"
    with pytest.raises(exception):
        lease.unlink()
        lease.write_text("taken by another process")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            time.sleep(0.05)
    guard.release()


def test_a_process_that_lost_its_lease_is_stopped(tmp_path, capsys, signals_restored):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    lose_a_lease(tmp_path, KeyboardInterrupt)
    assert "belongs to another process now" in " ".join(capsys.readouterr().err.split())


def test_a_background_command_that_ignores_ctrl_c_is_stopped_too(tmp_path, signals_restored):
    class Terminated(Exception):
        pass

    def end(*_: object) -> None:
        raise Terminated

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
    lose_a_lease(tmp_path, Terminated)


def test_errors_that_say_nothing_of_locks_are_not_hidden(tmp_path, monkeypatch):
    def flock(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(OSError, match="Read-only"):
        file_lock.acquire(tmp_path / "a.lock", 0)
