"""One call of a student's method: its result, or a text that says what became of it.

The texts: "to do", "none" (it returned nothing, though something is written), "error: ...",
"problem: ..." (a fact that needs no right number), "not offered: ...", "ok".
"""

import ast
import contextlib
import inspect
import io
import os
import signal
import textwrap
import threading
import traceback
import warnings
from pathlib import Path

import numpy as np

MAX_SIZE = 10**6  # numbers in an array that a method may return
MAX_TEXT = 2000
SECONDS = 3.0  # for one call, where the system has a timer
IMPORT_SECONDS = 20.0  # for an import: matplotlib may look for fonts first


class _Nowhere(io.RawIOBase):
    """Takes what a student's code prints, and keeps nothing."""

    def writable(self):
        return True

    def write(self, data):
        return len(data)


def attempt(function, *args, file=None, quiet=True, seconds=None, **kwargs):
    """(result, None) or (None, text), whatever the function does; warnings are lost.

    file: of the student, whose line an error shows. quiet: what it prints is lost, too. seconds: it
    may take, SECONDS if not given.
    """
    with warnings.catch_warnings(), quietly(quiet), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            with _time_limit(SECONDS if seconds is None else seconds):
                return function(*args, **kwargs), None
        except NotImplementedError:
            return None, "to do"
        except (Exception, SystemExit) as error:
            return None, f"error: {explanation(error, file)}"[:MAX_TEXT]


@contextlib.contextmanager
def _time_limit(seconds):
    """Raise TimeoutError in the body if it takes longer than so many seconds."""
    if not hasattr(signal, "setitimer") or threading.current_thread() != threading.main_thread():
        yield
        return

    def stop(signum, frame):
        raise TimeoutError(f"still running after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def quietly(quiet=True):
    """A context in which what is printed is lost, or is not."""
    if not quiet:
        return contextlib.nullcontext()
    return contextlib.redirect_stdout(io.TextIOWrapper(_Nowhere(), "utf-8", "replace"))


@contextlib.contextmanager
def printed():
    """A buffer that takes what is printed in the body."""
    buffer = io.StringIO()
    with contextlib.redirect_stdout(buffer):
        yield buffer


def padding_refusal(layer, padding):
    """Why a Convolution does not offer that padding, though its constructor took it; or None."""
    wanted = {"SAME": None, "VALID": 0}.get(padding, padding)
    pad = getattr(layer, "pad", wanted)
    if wanted is None or pad == wanted:
        return None
    return f"not offered: with padding {padding!r} its constructor sets pad to {pad}"


def explanation(error, file=None):
    """Kind and text of an error, and the student's own line in which it arose."""
    text = " ".join(str(error).split())
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        line = (error.text or "").strip()
        said = f"{type(error).__name__}: {error.msg}"
        return f"{said}\n    {Path(error.filename).name}:{error.lineno}: {line}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_same(f.filename, file)]
    if not frames:
        return said
    frame = frames[-1]
    return f"{said}\n    {Path(frame.filename).name}:{frame.lineno}: {frame.line}"


def _is_same(filename, file):
    return file is not None and os.path.realpath(filename) == os.path.realpath(file)


def is_gap(function):
    """Whether a method has nothing in it but a docstring, pass, ... or what stands for a gap."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return False
    body = getattr(tree.body[0], "body", None)
    return isinstance(body, list) and all(  # a lambda's is none
        isinstance(statement, ast.Pass | ast.Raise)
        or (
            isinstance(statement, ast.Expr | ast.Assign | ast.Return)
            and (statement.value is None or isinstance(statement.value, ast.Constant))
        )
        for statement in body
    )


def as_result(value, what="it"):
    """The array of a value that was returned, in its own type, or a text."""
    if value is None:
        return "none"
    if value is Ellipsis or value is NotImplemented:
        return "to do"
    if isinstance(value, list | tuple | dict | set | str | bytes):
        return f"problem: {what} is a {type(value).__name__}, expected an array of NumPy"
    array, failure = attempt(np.asarray, value)
    if failure:
        return failure
    if array.dtype.kind not in "fiub":
        return f"problem: {what} has elements of type {array.dtype}, expected numbers"[:MAX_TEXT]
    if array.size > MAX_SIZE:
        return f"problem: {what} has the shape {array.shape}"[:MAX_TEXT]
    wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
    return np.array(array, np.float64 if wide else array.dtype.newbyteorder("="))


def first_difference(before, after):
    """Where an array differs from its copy: "[0, 1] was 0.5 and is 0", or None."""
    if before.shape != after.shape:
        return f"had the shape {before.shape} and has {after.shape}"
    differs = ~((before == after) | (np.isnan(before) & np.isnan(after)))
    if not differs.any():
        return None
    index = tuple(map(int, np.argwhere(differs)[0]))
    return f"[{', '.join(map(str, index))}] was {before[index]:g} and is {after[index]:g}"
