"""Runs in the process of a submission, before any of its code: sets the limits of that process,
which cannot be raised again, and then runs a module as `python -m` does.

start.py '{"memory_mb": 2000, ...}' MODULE ARGUMENTS...
"""

import contextlib
import ctypes
import json
import os
import runpy
import signal
import sys
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None

PR_SET_PDEATHSIG = 1


def main():
    limits = json.loads(sys.argv[1])
    end_with(limits["parent"])
    set_limits(limits)
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def end_with(parent):
    """Let Linux kill this process if grade.py is killed, which could not do it any more.

    parent: the number of its process.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it was, just before
            os.kill(os.getpid(), signal.SIGKILL)


def set_limits(limits):
    """limits: the entries of marks.toml; seconds: those of this process."""
    if resource is None:
        return
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it: the process would go on
    wanted = {
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_AS": (limits["memory_mb"] * 10**6,) * 2,
        "RLIMIT_CPU": (limits["seconds"], limits["seconds"] + 1),  # a signal, then the end
        "RLIMIT_FSIZE": (limits["written_mb"] * 10**6,) * 2,
        "RLIMIT_NOFILE": (limits["open_files"],) * 2,
    }
    if sys.platform == "linux":
        wanted["RLIMIT_NPROC"] = (limits["processes"] + tasks_of_this_user(),) * 2
    for name, (soft, hard) in wanted.items():
        # a system may not know a limit, or already have a lower one
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (soft, hard))


def tasks_of_this_user():
    """How many processes and threads the user has now: Linux counts these against the limit."""
    count = 0
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            if folder.name.isdigit() and folder.stat().st_uid == os.getuid():
                count += len(os.listdir(folder / "task"))  # noqa: PTH208
    return count


if __name__ == "__main__":
    main()
