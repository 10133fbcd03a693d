"""What is seen, as a file: arrays and texts by name, in an .npz, nothing of it pickled."""

import io
import zipfile
from pathlib import Path

import numpy as np

MAX_FILE = 8 * 2**20  # bytes of one array, and
MAX_BYTES = 256 * 2**20  # of all: a stranger's file may claim any size


def write(path, values):
    """Write a dict of arrays and texts."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in values.items():
            data = io.BytesIO()
            if isinstance(value, str):  # a lone surrogate is no character
                value = value.encode("utf-8", "backslashreplace").decode().rstrip("\0")
            np.lib.format.write_array(data, np.asarray(value), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data.getvalue())  # no date in it
    Path(path).write_bytes(buffer.getvalue())


def read(path):
    """The dict again. Raises: OSError; ValueError for what write has not written."""
    values = {}
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if any(e.file_size > MAX_FILE for e in entries):
                raise ValueError("an array is too large")
            if sum(e.file_size for e in entries) > MAX_BYTES:
                raise ValueError("the arrays are too large")
            for entry in entries:
                array = _array(archive.read(entry))
                values[entry.filename.removesuffix(".npy")] = array
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{path}: {error}") from error
    return values


def _array(content):
    """The array or text in the bytes of an .npy file, whose header must not claim more."""
    data = io.BytesIO(content)
    if np.lib.format.read_magic(data) != (1, 0):
        raise ValueError("unknown version of .npy")
    shape, _, dtype = np.lib.format.read_array_header_1_0(data)
    count = 1
    for size in shape:
        count *= size
    if dtype.hasobject or count * dtype.itemsize != len(content) - data.tell():
        raise ValueError("an array is not as large as it says")
    data.seek(0)
    array = np.lib.format.read_array(data, allow_pickle=False)
    return str(array) if array.dtype.kind == "U" else array
