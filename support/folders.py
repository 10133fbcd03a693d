"""The folder of a run: claimed for one process, its earlier content moved aside or gone on with."""

import shlex
import sys
from pathlib import Path

from support.errors import RunError
from support.files import read_json_if_there, write_json
from support.locks import lock, unlock
from support.options import flag
from support.start import ROOT
from support.surroundings import no_room

# options that may change on --resume
FREE_OPTIONS = ("data_dir", "save_dir", "resume", "threads", "epochs", "checkpoint_minutes")
# what decides on the last digits, in results.json
ROUNDING_FACTS = ("threads", "processes", "device", "multiplied_in")
MARKS = ("config.json", "history.csv", "results.json", "checkpoint.npz", "checkpoint.pt")


def begin(folder, options, resume, fixed, facts):
    """Make and lock the folder of a run; returns whether the run that is there goes on.

    An earlier run that does not is moved aside. All arguments as in Run.start.
    """
    try:
        if folder.is_dir():
            lock(folder)
        if resume and not (folder / "config.json").exists():
            print(f"{folder} holds no run that could be resumed: a new one begins")
            resume = False
        if resume:
            _check_options(folder, options, fixed)
            _check_facts(folder, facts)
        elif any((folder / name).exists() for name in MARKS):
            print(f"the earlier run is kept in {move_aside(folder)}")
        (folder / "filters").mkdir(parents=True, exist_ok=True)
        lock(folder)
        write_json(folder / "config.json", options)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    return resume


def claim(folder, options, resume, fixed=(), free=()):
    """Make and lock a folder for several runs; without resume, an earlier one is moved aside.

    options: written to config.json, for --resume; fixed: as in Run.start; free: those that may
    change on resume, besides FREE_OPTIONS.
    Raises: RunError if the folder cannot be written, another process writes into it, or the
    options do not fit.
    """
    try:
        if folder.is_dir():
            lock(folder)
            if resume:
                _check_options(folder, options, fixed, free)
            else:
                print(f"the earlier runs are kept in {move_aside(folder)}")
        folder.mkdir(parents=True, exist_ok=True)
        lock(folder)
        write_json(folder / "config.json", options)
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _cannot_write(folder, error):
    reason = f"{error.strerror or error}{no_room(error)}"
    return RunError(f"cannot write to {folder}: {reason}")


def _check_options(folder, options, fixed=(), free=()):
    """Refuse to resume a run with other options than it had."""
    before = read_json_if_there(folder / "config.json")
    if gone := [f"{flag(name)} {before[name]}" for name in before.keys() - options if before[name]]:
        raise RunError(f"cannot resume {folder}: there is no {', '.join(sorted(gone))} any more")
    free = {*FREE_OPTIONS, *free} - {*fixed}
    others = [name for name in options if before.get(name, options[name]) != options[name]]
    others = [name for name in others if name not in free]
    if others:
        changes = ", another ".join(
            f"{flag(name)}: it was {before[name]}, now it is {options[name]}" for name in others
        )
        flags = {flag(prefix + name) for name in others for prefix in ("", "no_")}
        raise RunError(
            f"cannot resume {folder} with another {changes}; with the options that it had: "
            f"{_command_without(flags)}"
        )


def _check_facts(folder, facts):
    """Refuse to resume a run on other data; warn where the rounding may be another."""
    before = read_json_if_there(folder / "results.json")
    facts = {"processes": 1, **facts}
    for name in ("dataset", "provenance"):
        if name in before and before[name] != facts.get(name):
            raise RunError(
                f"cannot resume {folder} on other data: {name} was {before[name]}, "
                f"now it is {facts.get(name)}"
            )
    for name in ROUNDING_FACTS:
        if name in before and before[name] != facts.get(name):
            print(
                f"warning: {name.replace('_', ' ')} {before[name]} before, {facts.get(name)} "
                "now: the last digits may differ from those of an uninterrupted run"
            )


def move_aside(folder):
    """Rename folder to the first free of folder.1, folder.2 and so on; the new path."""
    unlock(folder)  # where files are open, Windows does not rename
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    return folder.rename(aside)


def command(save_dir, is_alone):
    """What to type to start this script again with its run in save_dir, where that is known: not
    for torchrun, of which is_alone is False, nor for a notebook.
    """
    script = Path(sys.argv[0])
    if not is_alone or script.resolve().parent != ROOT:
        return "the same command with"
    place = ["--save-dir", save_dir] if save_dir != str(ROOT / "out") else []
    return shlex.join(["python3", str(script), *place])


def _command_without(flags):
    """The line that started this script, without some of its options."""
    words, keep = ["python3", sys.argv[0]], True
    for word in sys.argv[1:]:
        if word.startswith("--"):
            keep = word.partition("=")[0] not in flags
        words += [word] * keep
    return shlex.join(words)
