"""Runs a module in a process of its own, within limits, and ends all that it has started.

The process sets most limits of itself (inside.py); here the clock, what it prints and writes, and
on Linux the memory and number of its family are watched. Where root marks, it runs as the user
nobody, who can write into its own folder only.
"""

import contextlib
import ctypes
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

WATCH_SECONDS = 0.05
MAX_WRITTEN_FILES = 2_000
SHOWN = 4_000  # bytes of the end of what it printed
PR_SET_CHILD_SUBREAPER = 36
ON_LINUX = sys.platform == "linux"


@dataclass
class Ended:
    """stopped: by which limit, "stopped: more than 30 s of the clock" for example, None if it ended
    by itself; status: as in subprocess; output: the end of what it printed.
    """

    stopped: str | None
    status: int
    output: str
    seconds: float


def run(room, module, arguments, limits, seconds):
    """Run a module of the Room with these arguments; returns an Ended.

    limits: the Limits of marks.toml; seconds: of the clock, and of the processor.
    """
    start = [sys.executable, "-s", "-B", "-u", str(room.start)]
    told = {**asdict(limits), "seconds": seconds, "parent": os.getpid()}
    start += [json.dumps(told), module, *map(str, arguments)]
    options = {"cwd": room.scratch, "env": _environment(room.scratch), "stdin": subprocess.DEVNULL}
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **other_user()}
    begun, size = time.monotonic(), _written(room.folder)[0]
    with _family() as family, subprocess.Popen(start, start_new_session=True, **options) as process:
        printed = _Printed(process.stdout)
        try:
            stopped = None
            while process.poll() is None and stopped is None:
                if time.monotonic() - begun > seconds:
                    stopped = f"stopped: more than {seconds} s of the clock"
                elif printed.total > limits.printed_kb * 1000:
                    stopped = f"stopped: more than {limits.printed_kb} kB of printed text"
                else:
                    stopped = _too_much(room.folder, size, family, process.pid, limits)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(WATCH_SECONDS)
        finally:
            family.end(process)
        printed.thread.join(1)  # who has escaped may hold the other end
    output = printed.end.decode(errors="replace")
    taken = time.monotonic() - begun
    stopped = stopped or _limit_of_status(process.returncode, output, limits, seconds)
    return Ended(stopped, process.returncode, output, taken)


def unlimited():
    """What is not limited on this system, as a list of words; for the teacher to know."""
    if os.name != "posix":
        return ["memory", "processor time", "open files", "number of processes"]
    if not ON_LINUX:
        return ["number of processes", *(["memory"] if sys.platform == "darwin" else [])]
    return []


@functools.cache
def other_user():
    """Options of Popen that make the process one of the user nobody; empty where that cannot be."""
    if os.name != "posix" or os.geteuid() != 0:
        return {}
    import pwd

    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return {}
    user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    command = [sys.executable, "-s", "-c", "import numpy"]
    try:
        works = subprocess.run(command, **user, **quiet, timeout=60).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return {}
    return user if works else {}


def _environment(scratch):
    """Nothing that is not needed: what the teacher has set is not for students' eyes."""
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "LC_ALL")
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    threads += ("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")
    folders = dict.fromkeys(("HOME", "TMPDIR", "TEMP", "TMP", "USERPROFILE"), str(scratch))
    kept = {name: os.environ[name] for name in kept if name in os.environ}
    return {**kept, **dict.fromkeys(threads, "1"), **folders, "PYTHONIOENCODING": "utf-8:replace"}


class _Printed:
    """Reads what a process prints, in a thread; keeps the end of it and its length."""

    def __init__(self, pipe):
        self.total, self.end = 0, b""
        self.thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self.thread.start()

    def _read(self, pipe):
        with contextlib.suppress(OSError, ValueError):  # closed here
            while chunk := os.read(pipe.fileno(), 65536):
                self.total += len(chunk)
                self.end = (self.end + chunk)[-SHOWN:]


def _too_much(folder, size, family, pid, limits):
    """Which limit is exceeded at this moment, or None. size: of the folder before."""
    written, num_files = _written(folder)
    if written - size > limits.written_mb * 10**6:
        return f"stopped: more than {limits.written_mb} MB of written files"
    if num_files > MAX_WRITTEN_FILES:
        return f"stopped: more than {MAX_WRITTEN_FILES} written files"
    members = family.members(pid)
    if len(members) > limits.processes:
        return f"stopped: more than {limits.processes} processes"
    if sum(map(_resident, members)) > limits.memory_mb * 10**6:
        return f"stopped: more than {limits.memory_mb} MB of memory"
    return None


def _written(folder):
    """(bytes, number) of the files below a folder; links are not followed."""
    size = number = 0
    for top, _, names in os.walk(folder):
        for name in names:
            number += 1
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(top, name)).st_size  # noqa: PTH118
        if number > MAX_WRITTEN_FILES:
            break
    return size, number


def _limit_of_status(status, output, limits, seconds):
    """The limit that a process met which ended by itself, as its status tells, or None."""
    if os.name == "posix" and status < 0:
        number = -status
        if number == signal.SIGXCPU:
            return f"stopped: more than {seconds} s of the processor"
        if number == signal.SIGXFSZ:
            return f"stopped: more than {limits.written_mb} MB of written files"
        if number == signal.SIGKILL:
            return "killed by the system, perhaps for its memory"
        return f"crashed: {signal.Signals(number).name}"
    last = output.rstrip().rpartition("\n")[2]
    if status and "MemoryError" in last.partition(":")[0]:
        return f"stopped: more than {limits.memory_mb} MB of memory"
    return None


class _family:  # noqa: N801 -- a context manager
    """The descendants of a process, on Linux even those that have left its session."""

    def __enter__(self):
        self._before = _children(os.getpid())
        _adopt_orphans(True)
        return self

    def __exit__(self, *_):
        _adopt_orphans(False)

    def members(self, pid):
        """The process ids of pid and its descendants, the orphans among them."""
        waiting = [pid, *(_children(os.getpid()) - self._before - {pid})]
        found = set()
        while waiting:
            member = waiting.pop()
            if member not in found:
                found.add(member)
                waiting += _children(member)
        return found

    def end(self, process):
        """Kill them all; a bomb may have to be killed several times."""
        if os.name != "posix":
            tree = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
            subprocess.run(tree, capture_output=True)
            process.wait()
            return
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            members = self.members(process.pid) - {process.pid}
            for member in members:
                with contextlib.suppress(OSError):
                    os.kill(member, signal.SIGKILL)
            process.poll()
            for orphan in _children(os.getpid()) - self._before - {process.pid}:
                with contextlib.suppress(OSError):
                    os.waitpid(orphan, os.WNOHANG)
            if (process.returncode is not None and not members) or time.monotonic() > deadline:
                return
            time.sleep(0.01)


def _children(pid):
    """The process ids of the children of a process, on Linux; empty elsewhere."""
    found = set()
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError, ValueError):
                found |= set(map(int, (task / "children").read_text().split()))
    return found


def _adopt_orphans(yes):
    """Become the parent of orphaned descendants, who would otherwise be nobody's to find."""
    if ON_LINUX:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0)


def _resident(pid):
    """Bytes of memory that a process holds."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
