"""Locks of folders: one process at a time writes into a run's folder.

Not by filelock: it does not say who holds a lock, and its older versions take every error for a
held one.
"""

import errno
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from support.errors import RunError

IN_USE = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # all else: there are no locks here

_locks = {}  # path: descriptor; the system lets go of them when the process ends, however it does


def lock(folder):
    """Make this process the only one that writes into folder, until it ends; where the file system
    knows no locks, warn and do without.

    Raises: RunError, with the number of the other process, if another one does already.
    """
    path = Path(folder).resolve() / ".lock"
    if path in _locks:
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock_file(descriptor)
    except OSError as error:
        if error.errno in IN_USE:
            owner = os.read(descriptor, 100).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise RunError(
                f"{folder} is in use by process {owner}; wait for it or stop it"
            ) from None
        _warn_of_no_locks(folder.parent, error.strerror)
    os.truncate(path, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    _locks[path] = descriptor


@cache
def _warn_of_no_locks(folder, reason):
    """Once for all runs of a folder."""
    print(
        f"warning: no locks in {folder} ({reason}): see to it that no other run writes there",
        file=sys.stderr,
    )


def unlock(folder):
    """Let others write into folder."""
    path = Path(folder).resolve() / ".lock"
    if path in _locks:
        os.close(_locks.pop(path))
        with suppress(OSError):
            path.unlink()


def is_in_use(folder):
    """Whether a process, this one or another, writes into folder, or may do so."""
    path = Path(folder).resolve() / ".lock"
    if path in _locks:
        return True
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        _lock_file(descriptor)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock_file(descriptor):
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, 1_000_000, os.SEEK_SET)  # beyond the content, which others may read
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
