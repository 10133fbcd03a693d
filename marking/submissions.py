"""The files of a submission, a folder, a zip or a .py file, read into memory and never unpacked.

Nothing is written, no link is followed, and what is read is bounded before it is read.
"""

import contextlib
import os
import stat
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

MAX_FILE = 1_000_000  # bytes of a file that is read
MAX_FILES = 50  # .py files beside layers.py
MAX_ENTRIES = 5_000  # in a folder or a zip
MAX_UNPACKED = 100_000_000  # bytes of a zip
MAX_RATIO = 100  # of a zip, unpacked to packed
MAX_DEPTH = 8
NAMES = ("my_layers.py", "layers.py")  # the first of them that is there is the submission
SKIPPED = ("__MACOSX", "__pycache__", "node_modules")


class SubmissionError(Exception):
    """What is wrong with a submission, in one line."""


@dataclass(frozen=True)
class Submission:
    name: str
    path: Path


def find(folder):
    """A Submission for each sub-folder, zip or .py file in folder, by name."""
    entries = sorted(p for p in Path(folder).iterdir() if not _is_skipped(p.name))
    entries = [p for p in entries if p.is_dir() or p.suffix.lower() in (".py", ".zip")]
    stems = [p.stem if p.suffix.lower() in (".py", ".zip") else p.name for p in entries]
    names = [p.name if stems.count(s) > 1 else s for p, s in zip(entries, stems, strict=True)]
    return [Submission(name, path) for name, path in zip(names, entries, strict=True)]


def read(path):
    """{"layers.py": its bytes, "answers.toml": ..., "answers.md": ..., other .py files beside it}.

    Raises: SubmissionError; whatever else reading a damaged zip raises.
    """
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        raise SubmissionError("it is a link, which is not followed")
    if stat.S_ISREG(mode) and path.suffix.lower() == ".py":
        return {"layers.py": _read_file(path)}
    if stat.S_ISREG(mode):
        return _read_zip(path)
    if not stat.S_ISDIR(mode):
        raise SubmissionError("it is neither a file nor a folder")
    found = _in_folder(path)
    zips = [place for place in found if place.suffix.lower() == ".zip"]
    if len(zips) == 1 and not any(place.suffix == ".py" for place in found):  # as Moodle leaves it
        return _read_zip(path / zips[0])
    return _chosen(found)


def _chosen(found):
    """What is read of all files that were found. found: {PurePosixPath: function that reads it}."""
    links = {place for place, read_it in found.items() if read_it is _refuse}
    code = next((p for name in NAMES if (p := _outermost(found.keys() - links, name))), None)
    if code is None:
        scripts = [place for place in found.keys() - links if place.suffix == ".py"]
        if len(scripts) != 1:
            link = any(place.name in NAMES for place in links)
            raise SubmissionError(
                "its layers.py is a link, which is not followed" if link
                else "there is no layers.py in it"
            )  # fmt: skip
        code = scripts[0]
    # a module's name cannot be one that means something to a file system
    beside = [p for p in found if p.parent == code.parent and p.suffix == ".py" and p != code]
    beside = sorted(p for p in beside if p.stem.isidentifier() and p not in links)
    if len(beside) > MAX_FILES:
        raise SubmissionError(f"{len(beside)} .py files lie beside {code.name}, {MAX_FILES} may")
    files = {place.name: found[place]() for place in beside}
    if answers := _outermost(found.keys() - links, "answers.toml"):
        files["answers.toml"] = found[answers]()
    with contextlib.suppress(SubmissionError):  # what has no points costs none
        if prose := _outermost(found.keys() - links, "answers.md"):
            files["answers.md"] = found[prose]()
    return {**files, "layers.py": found[code]()}


def _outermost(places, name):
    """The place of the file of that name in the outermost folder that has one, or None."""
    places = [place for place in places if place.name == name]
    depth = min((len(place.parts) for place in places), default=0)
    places = [place for place in places if len(place.parts) == depth]
    if len(places) > 1:
        raise SubmissionError(f"{len(places)} folders in it have a {name}")
    return places[0] if places else None


def _in_folder(top):
    """{place: function that reads it} of all files below a folder."""
    found, folders, num_entries = {}, [(top, PurePosixPath())], 0
    while folders:
        folder, place = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                num_entries += 1
                if num_entries > MAX_ENTRIES:
                    raise SubmissionError(f"there are more than {MAX_ENTRIES:,} files in it")
                here = place / entry.name
                if entry.is_symlink():
                    found[here] = _refuse
                elif entry.is_dir() and not _is_skipped(entry.name) and len(here.parts) < MAX_DEPTH:
                    folders.append((Path(entry.path), here))
                elif entry.is_file():
                    found[here] = partial(_read_file, Path(entry.path))
    return found


def _read_zip(path):
    if path.lstat().st_size > MAX_UNPACKED:
        raise SubmissionError(f"the zip is larger than {MAX_UNPACKED / 1e6:.0f} MB")
    with zipfile.ZipFile(path) as archive:
        # PowerShell writes folders with backslashes
        places = [(PurePosixPath(m.filename.replace("\\", "/")), m) for m in archive.infolist()]
        for place, member in places:
            if place.is_absolute() or ".." in place.parts:
                raise SubmissionError(f"the zip names a file outside its folder: {member.filename}")
        places = [(p, m) for p, m in places if not any(map(_is_skipped, p.parts))]
        if len(places) > MAX_ENTRIES:
            raise SubmissionError(f"there are more than {MAX_ENTRIES:,} files in the zip")
        unpacked = sum(member.file_size for _, member in places)
        packed = sum(member.compress_size for _, member in places)
        if unpacked > MAX_UNPACKED or (unpacked > MAX_FILE and unpacked > MAX_RATIO * packed):
            raise SubmissionError(f"the zip would unpack from {packed:,} to {unpacked:,} bytes")
        found = {}
        for place, member in places:
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                found[place] = _refuse
            elif not member.is_dir():
                found[place] = partial(_read_member, archive, member)
        return _chosen(found)


def _read_member(archive, member):
    with archive.open(member) as file:  # its size in the list may be a lie
        return _bounded(file, member.filename)


def _read_file(path):
    # a link or a pipe may have come in its place by now
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with open(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:  # noqa: PTH123
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise SubmissionError(f"{path.name} is not a file")
        return _bounded(file, path.name)


def _bounded(file, name):
    content = file.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise SubmissionError(f"{name} is larger than {MAX_FILE / 1e6:.0f} MB")
    return content


def _refuse():
    """In the place of what reads a file, for a link."""
    raise SubmissionError("a link is not followed")


def _is_skipped(name):
    return name.startswith(".") or name in SKIPPED
