"""The reader of run folders: what a run left, as far as it can be read.

A file that is missing is empty; one that is damaged is empty, too, and becomes a sentence.
"""

import contextlib
import math
from pathlib import Path

from support import files, tables
from support.locks import is_in_use
from support.run import HISTORY_COLUMNS

STATES = ("running", "interrupted", "diverged", "finished")  # that results.json may hold
MAX_NUMBER = 1e15  # in a table; what is larger is damage
COMPARED = ("epochs", "batch_size", "lr_scale", "provenance", "num_train", "seed")


class Record:
    """What a folder holds. results, config: dicts; history: {column: list of numbers}, empty before
    the first epoch is finished; problems: a sentence for each damaged file that was asked for.
    """

    def __init__(self, folder):
        self.folder, self.problems = Path(folder), []
        self.results = self.json("results.json")
        self.config = self.json("config.json")
        self.history = self.numbers("history.csv", HISTORY_COLUMNS)

    @property
    def exists(self):
        return self.folder.is_dir()

    @property
    def state(self):
        """missing | damaged | running | killed | interrupted | diverged | finished."""
        if not self.exists:
            return "missing"
        state = self.results.get("status")
        if state == "running" and not is_in_use(self.folder):
            return "killed"
        return state if state in STATES else "damaged"

    @property
    def num_epochs(self):
        return len(self.history.get("epoch", ()))

    @property
    def epochs(self):
        """The history as a dict an epoch."""
        rows = zip(*self.history.values(), strict=True)
        return [dict(zip(self.history, row, strict=True)) for row in rows]

    @property
    def test_acc(self):
        return as_number(self.results.get("test_acc"))

    @property
    def seconds(self):
        """Seconds of training."""
        return sum(self.history.get("seconds", ()))

    @property
    def milliseconds_a_step(self):
        images = as_number(self.results.get("num_train"))
        batch_size = as_number(self.config.get("batch_size"))
        if not images or not batch_size or not self.num_epochs:
            return None
        return 1000 * self.seconds / (self.num_epochs * math.ceil(images / batch_size))

    def json(self, name):
        """The object in a JSON file."""
        return self.read(name, files.read_json, {})

    def rows(self, name, required=()):
        """The rows of a .csv file, which must have these columns, as dicts of texts."""
        return self.read(name, lambda path: tables.read_table(path, required), [])

    def numbers(self, name, columns):
        """These columns of a .csv file as lists of numbers."""

        def read(path):
            rows = tables.read_table(path, columns)
            numbers = {key: [float(row[key]) for row in rows] for key in columns if rows}
            if not all(abs(value) < MAX_NUMBER for column in numbers.values() for value in column):
                raise ValueError("a number in it is out of all bounds")
            return numbers

        return self.read(name, read, {})

    def arrays(self, name):
        """The arrays of an .npz file by name."""
        return self.read(name, files.read_arrays, {})

    def read(self, name, read, default):
        """read(path of a file in the folder); default if it is missing or damaged."""
        try:
            return read(self.folder / name)
        except (FileNotFoundError, NotADirectoryError):
            return default
        except (*files.DAMAGE, OSError) as error:
            self.add_problem(name, error)
            return default

    def add_problem(self, name, error):
        reason = " ".join(str(error).split())
        self.problems.append(f"{self.folder.name}/{name} cannot be read: {reason}"[:300])


def as_number(value):
    """value, or the number that a text says, if it is finite; else None."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        if isinstance(value, str):
            value = int(value) if value.isdecimal() else float(value)
        if not isinstance(value, bool) and math.isfinite(value):
            return value
    return None


def differences(ours, theirs):
    """What makes a comparison of two runs unfair, as texts: options or data that differ.

    Of each run a mapping with what config.json and results.json say.
    """
    return [
        f"{key.replace('_', ' ')} {ours[key]} and {theirs[key]}"
        for key in COMPARED
        if key in ours and key in theirs and ours[key] != theirs[key]
    ]
