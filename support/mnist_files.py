"""MNIST's four files: where they lie, where they are downloaded from, and their format, IDX."""

import math

from support import downloads
from support.data_files import DataError, NotFoundError, found_within, named, plain_name

import numpy as np

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# name: (MD5 of the .gz, MD5 of its content, number of examples); source: the MNIST home page's
# files as torchvision 0.20 lists them, the contents hashed by ourselves
MNIST_FILES = {
    "train-images-idx3-ubyte": (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "6bbc9ace898e44ae57da46a324031adb",
        60_000,
    ),
    "train-labels-idx1-ubyte": (
        "d53e105ee54ea40749a09fcbcd1e9432",
        "a25bea736e30d166cdddb491f175f624",
        60_000,
    ),
    "t10k-images-idx3-ubyte": (
        "9fb629c4189551a2d022fa330f9573f3",
        "2646ac647ad5339dbf082846283269ea",
        10_000,
    ),
    "t10k-labels-idx1-ubyte": (
        "ec29112dd5afa0611ce80d1b7f02629c",
        "27ae3e4e09519cfbb04c329615203637",
        10_000,
    ),
}
MNIST_FILE_LIMIT = 50_000_000  # bytes; the largest has 47 million


def find_mnist(data_dir):
    """The path of each file, after downloading those that are missing."""
    folder = data_dir / "MNIST" / "raw"
    names = {plain_name(name): name for name in MNIST_FILES}
    found = found_within(data_dir, lambda name: name in {"mnist", "raw", *names})
    found.sort(key=lambda path: (path.parent != folder, path.suffix.lower() == ".gz"))
    paths = {}
    for path in found:
        if name := names.get(plain_name(path.name).removesuffix("gz")):
            paths.setdefault(name, path)
    missing = [name for name in MNIST_FILES if name not in paths]
    if missing:
        urls = {f"{name}.gz": MNIST_FILES[name][0] for name in missing}
        try:
            downloads.download(urls, MNIST_MIRRORS, folder)
        except NotFoundError as error:
            alike = named(found, "mnist|idx[13]|t10k|train(images|labels)")
            raise NotFoundError(f"{error}{alike}") from error
    return {name: paths.get(name, folder / f"{name}.gz") for name in MNIST_FILES}


def parse_idx(content, path):
    """The array in the bytes of an IDX file of unsigned bytes; path is named in errors.

    Layout: 0, 0, 8 (unsigned byte), number of axes; a big-endian int32 an axis; the elements.
    Raises: DataError unless header and length agree.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08" or content[3] not in (1, 3):
        raise DataError(
            f"{path} is no IDX file of unsigned bytes: expected it to begin with 00 00 08 and "
            f"01 or 03, got {content[:4].hex(' ') or 'an empty file'}"
        )
    rank = content[3]
    header = 4 + 4 * rank
    if len(content) < header:
        raise DataError(f"{path} is truncated: {len(content)} bytes, its header has {header}")
    shape = tuple(int(size) for size in np.frombuffer(content, ">i4", rank, offset=4))
    if min(shape) < 1 or math.prod(shape) != len(content) - header:
        raise DataError(
            f"{path} is truncated or damaged: its header announces {shape}, "
            f"and {len(content) - header} bytes follow"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
