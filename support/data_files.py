"""Files of data on disk: found where unpackers leave them, and read whole.

Nothing that a file says of itself is believed before it is checked.
"""

import gzip
import re
import sys
import zlib
from contextlib import contextmanager


class DataError(ValueError):
    """Data that is missing or cannot be used; the message says in one line why and what to do."""


class NotFoundError(Exception):
    """Real data that is neither on disk nor to be downloaded."""


def plain_name(name):
    """A file's name without what unpackers and file systems change: case, dots, dashes, spaces."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def found_within(folder, enters, depth=4):
    """The paths in a folder and, up to depth deep, in folders in it of whose plain names `enters`
    is true; none if there is no folder.

    Raises: DataError if it is a file or may not be read.
    """
    found = []
    try:
        for path in sorted(folder.iterdir()):
            if path.name.startswith("._"):  # macOS's notes on a file of that name
                continue
            if depth and enters(plain_name(path.name)) and path.is_dir():
                found += found_within(path, enters, depth - 1)
            else:
                found.append(path)
    except FileNotFoundError:
        pass
    except NotADirectoryError as error:
        raise DataError(f"{folder} is a file, expected a folder with the data sets") from error
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error
    return found


def named(paths, pattern):
    """The end of a message: those of the paths that look like what was sought."""
    alike = [str(path) for path in paths if re.search(pattern, plain_name(path.name))]
    return f"; what lies there is not enough: {', '.join(alike[:6])}" if alike else ""


@contextmanager
def opened(path):
    """The file at path to read from, unpacked if it is gzip's.

    Raises: DataError if it cannot be opened, or for what the body finds wrong when it reads.
    """
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise DataError(f"{path} is not a file")
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"  # names do not tell: browsers unpack, too
            file.seek(0)
            yield gzip.GzipFile(fileobj=file) if packed else file
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def read_bytes(path, limit):
    """The content of a file, unpacked if it is gzip's, of at most `limit` bytes."""
    with opened(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DataError(f"{path} is larger than {limit:,} bytes when unpacked")
    return content


def warn(message):
    print(f"warning: {message}", file=sys.stderr)
