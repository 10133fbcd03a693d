"""The reader of run folders: what a run left, as far as it can be read.

A file that is missing is empty; one that is damaged is empty, too, and becomes a sentence.
"""

import contextlib
import math
import re
import stat
from pathlib import Path

from support import files, tables
from support.locks import is_in_use
from support.run import HISTORY_COLUMNS

STATES = ("running", "interrupted", "diverged", "finished")  # that results.json may hold
MAX_NUMBER = 1e15  # what is larger is damage
MAX_BYTES = 1_000_000  # of a file that the page shows whole
MAX_ROWS = 1_000  # of a table that it shows whole
MAX_HISTORY_BYTES = 20_000_000  # 100,000 epochs take 10 million
MAX_ARRAY_BYTES = 200_000_000
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
    def num_steps(self):
        """Steps of the finished epochs; None where that is not known."""
        images, batch_size = self.results.get("num_train"), self.config.get("batch_size")
        if not is_count(images) or not is_count(batch_size) or not self.num_epochs:
            return None
        return self.num_epochs * math.ceil(images / batch_size)

    @property
    def milliseconds_a_step(self):
        return 1000 * self.seconds / self.num_steps if self.num_steps else None

    @property
    def steps_a_second(self):
        return self.num_steps / self.seconds if self.num_steps and self.seconds > 0 else None

    def json(self, name):
        """The object in a JSON file."""
        return self.read(name, files.read_json, {})

    def rows(self, name, required=()):
        """The rows of a .csv file, which must have these columns, as dicts of texts."""

        def read(path):
            rows = tables.read_table(path, required)
            if len(rows) > MAX_ROWS:
                raise ValueError(f"it has {len(rows):,} rows, expected at most {MAX_ROWS:,}")
            return rows

        return self.read(name, read, [])

    def numbers(self, name, columns):
        """These columns of a .csv file as lists of numbers."""

        def read(path):
            rows = tables.read_table(path, columns)
            numbers = {key: [float(row[key]) for row in rows] for key in columns if rows}
            if not all(abs(value) < MAX_NUMBER for column in numbers.values() for value in column):
                raise ValueError("a number in it is out of all bounds")
            return numbers

        return self.read(name, read, {}, MAX_HISTORY_BYTES)

    def paths(self, pattern):
        """What is in the folder under names of that pattern, numbers in them sorted as numbers:
        epoch_100 after epoch_99. None if it has just been moved.
        """

        def key(path):
            parts = re.split(r"([0-9]+)", path.name)
            return [int(part) if i % 2 else part for i, part in enumerate(parts)]

        with contextlib.suppress(OSError):
            return sorted(self.folder.glob(pattern), key=key)
        return []

    def read(self, name, read, default, max_bytes=MAX_BYTES):
        """read(path of a file in the folder); default if it is missing, damaged or too large."""
        path = self.folder / name
        try:
            for_page = self.folder / "page" / name  # earlier runs have all in one folder
            if for_page.exists():
                path, name = for_page, f"page/{name}"
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
                raise ValueError("it is not a file")
            if status.st_size > max_bytes:
                raise ValueError(f"it has {status.st_size:,} bytes, expected at most {max_bytes:,}")
            return read(path)
        except (FileNotFoundError, NotADirectoryError):
            return default
        except (*files.DAMAGE, OSError) as error:
            self.add_problem(name, error)
            return default

    def add_problem(self, name, error):
        # of an OSError without the path, which is that of one machine
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        self.problems.append(f"{self.folder.name}/{name} cannot be read: {reason}"[:300])


def as_number(value):
    """value, or the number that a text says, if it is no larger than MAX_NUMBER; else None."""
    with contextlib.suppress(ValueError, TypeError):
        if isinstance(value, str):
            value = int(value) if value.isdecimal() else float(value)
        if not isinstance(value, bool) and abs(value) < MAX_NUMBER:  # this refuses a nan, too
            return value
    return None


def is_count(value):
    """Whether a value is how many there are of something, and at least one."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < MAX_NUMBER


def differences(ours, theirs):
    """What makes a comparison of two runs unfair, as texts: options or data that differ.

    Of each run a mapping with what config.json and results.json say.
    """
    return [
        f"{key.replace('_', ' ')} {ours[key]} and {theirs[key]}"
        for key in COMPARED
        if key in ours and key in theirs and ours[key] != theirs[key]
    ]
