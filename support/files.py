"""Files that are written whole or not at all.

Each is written under another name in the same folder, flushed to the disk and then renamed:
whenever the process dies, it is the whole old file or the whole new one.
"""

import csv
import io
import json
import os
from contextlib import suppress
from pathlib import Path

from support.errors import RunError

import numpy as np


def write_whole(path, content):
    """Write bytes or text under a temporary name, flush them to the disk, and rename."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            # names of files may hold what is no character: JSON reads \udcff back as it was
            text = isinstance(content, str)
            file.write(content.encode(errors="backslashreplace") if text else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # the system does not say which file has no room
        raise


def write_arrays(path, arrays):
    """A dict of arrays as an .npz file, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def write_table(path, columns, rows):
    """Rows, mappings with the keys `columns` at least, as a .csv file, whole or not at all."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, buffer.getvalue())


def write_json(path, values):
    write_whole(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def read_json(path):
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it holds no object")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read or is damaged: {error}") from error
    return values
