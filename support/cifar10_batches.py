"""CIFAR-10's pickled batches, read without running what a pickle may name."""

import math
import pickletools
from dataclasses import dataclass

from support.data_files import DataError
from support.files import in_one_line

import numpy as np

CIFAR10_BATCH_SHAPE = (10_000, 3_072)  # images, and the bytes of each: red, green, blue planes


def parse_cifar10_batch(content, path):
    """The images (10000, 3072) of uint8 and the labels (10000,) in a pickled batch.

    A pickle is a program: it may name any function and have it called, and ask for any amount of
    memory and time. Here the few opcodes that a batch needs build texts, numbers, lists and tuples
    and nothing else; what is to be called is only noted down. No value is hashed, copied or put
    into a message as long as nobody knows how large it is: a few bytes can nest a list 2**60 times.
    Raises: DataError for anything that is not a batch; path is named in it.
    """
    try:
        fields = _fields(_built(content))
        images, labels = _images(fields["data"]), fields["labels"]
        if type(labels) is not list or len(labels) != CIFAR10_BATCH_SHAPE[0]:
            raise ValueError(f"expected a list of {CIFAR10_BATCH_SHAPE[0]} labels")
        if not all(type(label) is int and 0 <= label < 10 for label in labels):
            raise ValueError("expected labels from 0 to 9")
    except Exception as error:  # a damaged pickle may raise nearly anything
        raise DataError(f"{path} is no CIFAR-10 batch: {in_one_line(error)}") from error
    return images, np.array(labels)


class _Pairs(list):
    """What becomes of a dict: keys and values in turn."""

    __slots__ = ()


@dataclass(eq=False, repr=False, slots=True)
class _Object:
    """What becomes of an object: the name that makes it, with what, and what it is then set to."""

    name: str
    args: tuple = ()
    state: tuple = ()


OPCODES_LIMIT = 20 * CIFAR10_BATCH_SHAPE[0]  # protocol 0 takes 12 an image
VALUES = (
    "INT", "BININT", "BININT1", "BININT2", "UNICODE", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE",
    "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES", "BYTEARRAY8",
)  # fmt: skip
KNOWN_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
NUM_TAKEN = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2}
ARRAY, ARRAY_OF_BUFFER = "numpy._core.multiarray _reconstruct", "numpy._core.numeric _frombuffer"
DTYPE, ENCODED = "numpy dtype", "_codecs encode"
NAMES = (ARRAY, ARRAY_OF_BUFFER, DTYPE, ENCODED, "numpy ndarray")


def _built(content):
    """What a pickle builds.

    Raises: ValueError for opcodes and names that no batch needs, and for more opcodes than one has;
    nearly anything where they do not fit together.
    """
    stack, marks, kept = [], [], {}

    def taken(number):
        """The last so many values, or all since the last mark; they leave the stack."""
        start = marks.pop() if number is None else len(stack) - number
        if start < max(marks[-1:], default=0):
            raise ValueError("it takes more values than there are")
        values = stack[start:]
        del stack[start:]
        return values

    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if number >= OPCODES_LIMIT:
            raise ValueError(f"it has more than {OPCODES_LIMIT:,} opcodes")
        name = opcode.name
        if name in VALUES:
            stack.append(argument)
        elif name in KNOWN_VALUES:
            stack.append(KNOWN_VALUES[name])
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(kept) if name == "MEMOIZE" else argument
            if place > number:
                raise ValueError(f"place {place} of {number} values")
            kept[place] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(kept[argument])
        elif name.startswith("EMPTY_"):
            stack.append({"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": _Pairs}[name]())
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(taken(NUM_TAKEN.get(name))))
        elif name in ("LIST", "DICT"):
            stack.append({"LIST": list, "DICT": _Pairs}[name](taken(None)))
        elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS"):
            values = taken(NUM_TAKEN.get(name))
            if type(stack[-1]) is not (list if "APPEND" in name else _Pairs):
                raise ValueError(f"{name} where there is no list or dict")
            stack[-1].extend(values)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(_named(argument if name == "GLOBAL" else " ".join(taken(2))))
        elif name == "REDUCE":
            made, args = taken(2)
            stack.append(_Object(made.name, args))
        elif name == "BUILD":
            (state,) = taken(1)
            stack[-1].state = state
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"opcode {name} has no place in one")
    return stack.pop()


def _named(name):
    name = name.replace("numpy.core.", "numpy._core.")  # as it was called before NumPy 2
    if name not in NAMES:
        raise ValueError(f"it asks for {name.replace(' ', '.')}, refused")
    return _Object(name)


def _fields(pairs):
    """The values of a dict with data and labels, by name. Raises: ValueError."""
    if type(pairs) is not _Pairs:
        raise ValueError("expected a dict")
    fields = {}
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        if type(key) is _Object and key.name == ENCODED:
            (key, _) = key.args
        if type(key) in (str, bytes) and len(key) <= len("labels"):
            fields[key if type(key) is str else key.decode("latin1")] = value
    if not {"data", "labels"} <= fields.keys():
        raise ValueError("expected a dict with data and labels")
    return fields


def _images(array):
    """The images (10000, 3072) of what became of their array. Raises: ValueError."""
    name = array.name if type(array) is _Object else None
    if name == ARRAY:
        _, shape, dtype, by_column, buffer = array.state
    elif name == ARRAY_OF_BUFFER:
        buffer, dtype, shape, order = array.args
        by_column = order != "C"
    else:
        raise ValueError("expected the images as an array")
    if type(dtype) is not _Object or dtype.name != DTYPE or dtype.args[0] != "u1" or by_column:
        raise ValueError("expected the images as unsigned bytes, row by row")
    pixels = _bytes(buffer)
    if shape != CIFAR10_BATCH_SHAPE or len(pixels) != math.prod(CIFAR10_BATCH_SHAPE):
        got = tuple(size if type(size) is int else "?" for size in shape[:9])
        raise ValueError(f"expected images {CIFAR10_BATCH_SHAPE}, got {got}")
    return np.frombuffer(pixels, np.uint8).reshape(CIFAR10_BATCH_SHAPE)


def _bytes(value):
    """The bytes of what became of them. Raises: ValueError."""
    if type(value) is _Object and value.name == ENCODED and value.args[1:] == ("latin1",):
        (value, _) = value.args
    if type(value) is str:
        value = value.encode("latin1")
    if type(value) not in (bytes, bytearray):
        raise ValueError(f"expected bytes, got {type(value).__name__.strip('_')}")
    return value
