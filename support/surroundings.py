"""What a script finds around it: the console, the home folder, a full disk, other programs."""

import errno
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

MAX_THREADS = max(64, 4 * (os.cpu_count() or 1))


def make_text_harmless():
    """Let no text end the program: what the console cannot show is shown as \\u03bb, and a console
    that is closed (2>&-) or absent (pythonw) is replaced by one that shows nothing.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _nowhere())
        elif hasattr(stream, "reconfigure"):  # Jupyter's has not, and shows everything
            stream.reconfigure(errors="backslashreplace")


def discard_output():
    """Send nowhere what is still to be printed where nobody takes it: the reader or the terminal is
    gone, or the disk behind it is full. Returns whether there was such a stream.
    """
    failed = False
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            failed = True
            with suppress(OSError):  # a stream that is no file
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return failed


def _nowhere():
    # for the rest of the process
    return Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace")


def folder(text):
    """A folder as the user wrote it, as an absolute path, ~ being the home folder; none stays none.

    Raises: ValueError if the home folder is not known.
    """
    if not text:
        return text
    try:
        return str(Path(text).expanduser().absolute())
    except RuntimeError:
        raise ValueError(
            f"the home folder in {text} is not known; ./{text} is a folder of that name"
        ) from None


def no_room(error, resumes=True):
    """Why a file found no room and what helps, as an addition to the message of an OSError; empty
    for errors of another kind. resumes: whether the command has an option --resume.
    """
    if not isinstance(error, OSError):
        return ""
    resume = ", and the same command with --resume goes on" if resumes else ""
    if error.errno == errno.EFBIG:
        return (
            "; the disk is not full: a limit on the size of files was met; raise it (ulimit -f "
            f"unlimited){resume}"
        )
    if error.errno == getattr(errno, "EDQUOT", None):
        return f"; your quota on this disk is used up: remove some files{resume}"
    if error.errno != errno.ENOSPC:
        return ""
    try:
        path = Path(error.filename).parent
        is_out_of_files = hasattr(os, "statvfs") and (
            os.statvfs(path).f_files and not os.statvfs(path).f_favail
        )
        free = shutil.disk_usage(path).free
    except (TypeError, OSError):  # what is full is not known: standard output's disk, for example
        return f"; make room{resume}"
    if is_out_of_files:
        return f"; {path} has room for no more files, however small: remove some{resume}"
    return f"; {free / 1e6:.1f} MB are free in {path}; make room{resume}"


def busy_hint(threads):
    """A line of advice where other programs take the processors that a run counts on, else None.

    The threads of a run wait for the slowest of them: one that shares its core slows down all.
    """
    if threads == 1 or not hasattr(os, "getloadavg"):
        return None
    try:
        load = os.getloadavg()[0]
    except OSError:
        return None
    cores = os.cpu_count() or 1
    left = cores - round(min(load, running_now()))
    if left >= threads:
        return None
    return (
        f"hint: other programs take the cores (a load of {load:.1f} on {cores}); "
        f"--threads {max(1, left)} may be faster"
    )


def running_now():
    """How many threads of other programs run at this moment, where the system tells it: the load of
    the last minute may be that of a compiler which is done. 0 where it does not.
    """
    try:
        running = Path("/proc/loadavg").read_text().split()[3].partition("/")[0]
        return int(running) - 1  # this one runs, too
    except (OSError, ValueError, IndexError):
        return 0
