"""Files that are written whole or not at all, and read so that damage is one kind of error.

Each is written under a name of its own in the same folder, flushed to the disk and then renamed:
whenever the process dies or the power fails, it is the whole old file or the whole new one, however
many processes write it at once.
"""

import io
import json
import os
import secrets
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from support.errors import RunError

import numpy as np

# what reading a damaged file raises, besides OSError
DAMAGE = (ValueError,)
PART = ".part-"  # how the names begin under which files are written
READ_SECONDS = (0.01, 0.1, 1)  # how long to wait for others that read a file, on Windows


@contextmanager
def whole(path, keep=None):
    """A name in the same folder to write to, which becomes path once the body is through.

    keep: a path that the file which is there gets then.
    """
    path = Path(path)
    temporary = path.with_name(f"{PART}{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if keep is not None:
            with suppress(FileNotFoundError):
                _rename(path, keep)
        _rename(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(path)  # the system does not say which file has no room
        raise
    flush_folder(path.parent)


def _rename(path, target):
    for seconds in READ_SECONDS if sys.platform == "win32" else ():
        try:
            path.replace(target)
            return
        except PermissionError:  # another process reads the target
            time.sleep(seconds)
    path.replace(target)


def flush_folder(folder):
    """Flush the names of the files in a folder to the disk, where the system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_parts(folder, name=""):
    """Remove what killed processes left of the files in a folder, or of the one of this name.

    Who is writing one at this moment fails.
    """
    for path in folder.glob(f"{PART}*{name}"):
        with suppress(OSError):
            path.unlink()


def write_whole(path, content, keep=None):
    """Write bytes or text; keep: see whole."""
    if isinstance(content, str):
        # names of files may hold what is no character: JSON reads \udcff back as it was
        content = content.encode(errors="backslashreplace")
    with whole(path, keep) as temporary:
        temporary.write_bytes(content)


def write_arrays(path, arrays):
    """A dict of arrays as an .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def read_arrays(path):
    """The arrays of an .npz file by name, none of them pickled. Raises: OSError; ValueError for all
    else.
    """
    # np.load leaves a damaged file open; this does not
    with Path(path).open("rb") as file:
        return arrays_in(file)


def arrays_in(file):
    """The same for an open file. Raises: ValueError."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # zip files and arrays' headers can be wrong in many ways
        raise ValueError(in_one_line(error)) from error


def in_one_line(error):
    """What an error says, or else its kind."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def write_json(path, values):
    write_whole(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def read_json(path):
    """The object that a JSON file holds, as a dict. Raises: OSError; ValueError for all else."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(values, dict):
        raise ValueError("it holds no object")
    return values


def read_json_if_there(path):
    """The same, empty if there is no such file. Raises: RunError if it is damaged."""
    try:
        return read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read or is damaged: {error}") from error
