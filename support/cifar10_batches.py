"""CIFAR-10's pickled batches, read without running what a pickle may name."""

import io
import math
import pickle
import pickletools

from support.data_files import DataError

import numpy as np

CIFAR10_BATCH_SHAPE = (10_000, 3_072)  # images, and the bytes of each: red, green, blue planes


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
