"""Files that are written whole or not at all.

Each is written under another name in the same folder, flushed to the disk and then renamed:
whenever the process dies, it is the whole old file or the whole new one.
"""

import io
import json
import os
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

from support.errors import RunError

import numpy as np

# what reading a damaged file may raise, besides OSError
DAMAGE = (ValueError, EOFError, RecursionError, zipfile.BadZipFile)


@contextmanager
def whole(path):
    """A name in the same folder to write to, which becomes path once the body is through."""
    path = Path(path)
    temporary = path.with_name(f".part-{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # the system does not say which file has no room
        raise


def write_whole(path, content):
    """Write bytes or text."""
    if isinstance(content, str):
        # names of files may hold what is no character: JSON reads \udcff back as it was
        content = content.encode(errors="backslashreplace")
    with whole(path) as temporary:
        temporary.write_bytes(content)


def write_arrays(path, arrays):
    """A dict of arrays as an .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def read_arrays(path):
    """The arrays of an .npz file by name, none of them pickled."""
    # np.load leaves a damaged file open; this does not
    with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def write_json(path, values):
    write_whole(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def read_json(path):
    """The object that a JSON file holds, as a dict. Raises: OSError; ValueError for all else."""
    values = json.loads(Path(path).read_text(encoding="utf-8"))
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
