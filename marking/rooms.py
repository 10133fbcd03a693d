"""The folder that a submission runs in: what its process needs of the project, and no solution."""

import contextlib
import os
import shutil
import stat
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from support.start import ROOT

from checks import tasks
from marking import limited

MAX_RESULT = 32_000_000  # bytes of what the process leaves


class Room:
    """folder: the project's part, which the process does not write; scratch: its own folder."""

    def __init__(self, folder, files):
        self.folder, self.scratch = Path(folder), Path(folder) / "scratch"
        self.start = self.folder / "start.py"
        self._copy("support", ROOT.glob("support/*.py"))
        # what knows right from wrong must not lie beside a submission
        solutions = {path for name in tasks.SOLUTIONS for path in ROOT.glob(f"checks/{name}")}
        self._copy("checks", set(ROOT.glob("checks/*.py")) - solutions)
        self._copy("marking", [ROOT / "marking" / n for n in ("__init__.py", "train_inside.py")])
        shutil.copy(ROOT / "marking" / "inside.py", self.start)
        for suffix in EXTENSION_SUFFIXES:
            for path in ROOT.glob(f"im2col_cython*{suffix}"):
                shutil.copy(path, self.folder)
        self.scratch.mkdir()
        for name, content in files.items():
            (self.scratch / name).write_bytes(content)
        if user := limited.other_user():
            self.folder.chmod(0o755)
            for path in (self.scratch, *self.scratch.iterdir()):
                os.chown(path, user["user"], user["group"])

    def _copy(self, name, paths):
        (self.folder / name).mkdir()
        for path in paths:
            shutil.copy(path, self.folder / name)

    def result(self, name):
        """The bytes of a file that the process has left, None if it has left none.

        Raises: ValueError if it is no file, or a large one.
        """
        # a link would lead elsewhere, a pipe would never end
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            number = os.open(self.scratch / name, flags | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ValueError(f"it left {name}, which cannot be read: {error.strerror}") from error
        with open(number, "rb") as file:  # noqa: PTH123
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise ValueError(f"it left {name}, which is not a file")
            content = file.read(MAX_RESULT + 1)
        if len(content) > MAX_RESULT:
            raise ValueError(f"it left {name} of more than {MAX_RESULT / 1e6:.0f} MB")
        return content


@contextlib.contextmanager
def room(files):
    """A Room with the files {name: bytes} of a submission in its scratch folder, for a while."""
    folder = tempfile.mkdtemp(prefix="grade-")
    try:
        yield Room(folder, files)
    finally:
        # folders without rights, names that cannot be: what is left is no reason to end
        shutil.rmtree(folder, ignore_errors=True)
