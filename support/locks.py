"""Locks of folders: one process at a time writes into a run's folder.

The lock of out/train is that of the file out/.train.lock, so it is held while the earlier folder is
moved aside as well. The file stays for ever, the system lets go of the lock when its process ends,
however it does. Not by filelock: it does not say who holds a lock, and it can look only by taking
it for a moment, in which another process is refused.
"""

import errno
import os
import struct
import sys
from functools import cache
from pathlib import Path

from support.errors import RunError

IN_USE = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # all else: there are no locks here

_locks = {}  # path: descriptor, None where there are no locks


def lock(folder):
    """Make this process the only one that writes into folder, which need not be there yet, until it
    ends; where the file system knows no locks, warn and do without.

    Raises: OSError; RunError, with the number of the other process, if another one does already.
    """
    path = _path(folder)
    if path in _locks:
        return
    descriptor = None
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        _take(descriptor)
    except OSError as error:
        if descriptor is not None and error.errno in IN_USE:
            owner = _owner(descriptor) or "unknown"
            os.close(descriptor)
            raise RunError(
                f"{folder} is in use by process {owner}; wait for it or stop it"
            ) from None
        if descriptor is None and not os.access(folder, os.W_OK):
            raise
        _warn_of_no_locks(path.parent, error.strerror)
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
    descriptor = _locks.pop(_path(folder), None)
    if descriptor is not None:
        os.close(descriptor)


def is_in_use(folder):
    """Whether a process, this one or another, writes into folder, or may do so. Looking takes
    nothing: no process that begins meanwhile is refused for it.
    """
    path = _path(folder)
    if path in _locks:
        return True
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return _owner(descriptor) is not None
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _path(folder):
    folder = Path(folder).resolve()
    return folder.with_name(f".{folder.name}.lock")


if sys.platform == "win32":
    import msvcrt

    def _take(descriptor):
        """Lock the first byte of a file and write behind it who did."""
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.write(descriptor, b" %-20d" % os.getpid())

    def _owner(descriptor):
        """The number of the other process that holds the lock; None if nobody does."""
        try:
            os.read(descriptor, 1)
        except PermissionError:  # what is locked cannot be read
            os.lseek(descriptor, 1, os.SEEK_SET)
            return os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
        return None

else:
    import fcntl

    # the C structure flock, and where in it the kind of a lock and its owner stand
    FLOCK, KIND, OWNER = ("hhqqi", 0, 4) if sys.platform == "linux" else ("qqihhi", 3, 2)

    def _take(descriptor):
        """Lock a file; the system knows who did."""
        # to close another descriptor of it would unlock it: who holds a lock does not look
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _owner(descriptor):
        """The number of the other process that holds the lock; None if nobody does."""
        asked = [0] * len(FLOCK)
        asked[KIND] = fcntl.F_WRLCK
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(FLOCK, *asked))
        found = struct.unpack(FLOCK, answer)
        return None if found[KIND] == fcntl.F_UNLCK else found[OWNER]
