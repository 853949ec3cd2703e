"""A lock on a file: the operating system's, or a lease where the file system gives no locks.

Network file systems without a lock service refuse ``flock`` with one of several error numbers. A
lease stands in: a file that exists once, whose holder renews it every few seconds. One whose
holder has died is taken over when it was not renewed for `LEASE_S`, at once if the holder's
machine is this one.
"""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Protocol

from filelock import FileLock, SoftFileLease, Timeout

from neuroclips_cli import console
from neuroclips_cli.errors import UserError

LEASE_S, RENEWED_S = 60.0, 10.0
"""A lease that was not renewed for so long is taken over; how often its holder renews it."""
_OTHER_TROUBLE = frozenset(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOENT)
    + (errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE)
)
"""Errors that say nothing about locks: they would hit a lease as well."""
_told: set[Path] = set()


class Guard(Protocol):
    """A lock that is held."""

    def release(self) -> None:
        """Give the lock back."""
        ...


def acquire(path: Path, timeout_s: float) -> Guard:
    """Take the lock of a file, which is made if it is not there.

    Parameters
    ----------
    path
        The lock file.
    timeout_s
        How long to try; negative: without end.

    Raises
    ------
    filelock.Timeout
        If another process holds it.
    UserError
        If the file system gives neither locks nor leases.
    """
    guard = FileLock(path, timeout=timeout_s, fallback_to_soft=False)
    try:
        guard.acquire(poll_interval=0.02)
    except NotImplementedError as error:  # ENOSYS
        return _lease(path, timeout_s, error)
    except Timeout:
        raise
    except OSError as error:
        if error.errno in _OTHER_TROUBLE:
            raise
        return _lease(path, timeout_s, error)
    if not path.exists():  # its holder was refused, and took it away (see stage_lock)
        guard.release()
        return acquire(path, timeout_s)
    return guard


def _lease(path: Path, timeout_s: float, cause: Exception) -> Guard:
    """Take a lease instead of a lock."""
    if path.parent not in _told:
        _told.add(path.parent)
        console.warn(
            f"the file system of {path.parent} gives no locks ({cause}): a file that is renewed "
            f"every {RENEWED_S:g} s stands in, and is taken over after {LEASE_S:g} s without"
        )
    lease = SoftFileLease(
        path.with_suffix(".lease"),
        lease_duration=LEASE_S,
        heartbeat_interval=RENEWED_S,
        on_compromise=lambda _: _give_up(path),
    )
    try:
        try:
            lease.acquire(timeout=timeout_s, poll_interval=0.02)
        except Timeout:
            if timeout_s <= 0 or not _looks_dead(path.with_suffix(".lease")):
                raise
            console.info(f"waiting up to {LEASE_S:g} s for a lease that nobody renews, {path}")
            lease.acquire(timeout=LEASE_S + 2 * RENEWED_S, poll_interval=0.5)
    except Timeout:
        raise
    except OSError as error:
        raise UserError(
            f"the file system of {path.parent} gives no locks ({cause}), and no lock file can be "
            f"made there ({error}): choose a folder on another file system"
        ) from error
    return lease


def _looks_dead(lease: Path) -> bool:
    """Tell whether a lease was not renewed of late, by the file system's own clock."""
    probe = lease.with_name(f".{lease.name}.{os.getpid()}.tmp")
    try:
        probe.touch()
        return probe.stat().st_mtime - lease.stat().st_mtime > 3 * RENEWED_S
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)


def _give_up(path: Path) -> None:
    """Stop this process: it was suspended so long that another one has taken its lease.

    As Ctrl-C would; where that is ignored, as it is for the background commands of a shell
    script, with SIGTERM.
    """
    console.warn(f"{path} was not renewed in time and belongs to another process now: stopping")
    ignored = signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None)
    signal.raise_signal(signal.SIGTERM if ignored else signal.SIGINT)
