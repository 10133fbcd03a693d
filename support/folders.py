"""The folder of a run: claimed for one process, its earlier content moved aside or gone on with."""

import sys
from contextlib import contextmanager
from pathlib import Path

from support.errors import RunError
from support.files import flush_folder, read_json_if_there, remove_parts, write_json
from support.locks import lock, unlock
from support.options import flag
from support.start import ROOT, shell_line
from support.surroundings import no_room

# options that may change on --resume
FREE_OPTIONS = ("data_dir", "save_dir", "resume", "threads", "epochs", "checkpoint_minutes")
FREE_OPTIONS += ("device", "tensorboard")
# of results.json: what may not change on --resume, and what may but decides on the last digits
SAME_FACTS = ("dataset", "provenance", "training_data", "teacher_model")
ROUNDING_FACTS = ("threads", "processes", "device", "multiplied_in", "instruction_set", "processor")
ROUNDING_FACTS += ("numpy", "scipy", "torch", "torchvision")
# and the types of what is read from it
RESULT_TYPES = {"status": str, "epochs": int, "test_acc": float, "recall": dict, "versions": dict}
MARKS = ("config.json", "history.csv", "results.json", "checkpoint.npz", "checkpoint.pt")


def begin(folder, options, resume, fixed, facts):
    """Make and lock the folder of a run; returns what results.json says of the run that goes on,
    None for a new one.

    An earlier run that does not go on is moved aside; one that does is not changed yet. All
    arguments as in Run.start.
    """
    with _claimed(folder):
        if resume and not (folder / "config.json").exists():
            print(f"{folder} holds no run that could be resumed: a new one begins")
            resume = False
        results = None
        if resume:
            _check_options(folder, options, fixed)
            results = _results(folder)
            _check_facts(folder, results, facts)
        elif any((folder / name).exists() for name in MARKS):
            print(f"the earlier run is kept in {move_aside(folder)}")
        filters = folder.resolve() / "filters"
        filters.mkdir(parents=True, exist_ok=True)
        if resume:
            for place in (folder, filters, folder / "page"):
                remove_parts(place)
        else:
            write_json(folder / "config.json", options)
    return results


def is_finished(results, options):
    """Whether a run with these results has as many epochs as the options ask for."""
    return results.get("status") == "finished" and results["epochs"] >= options.get("epochs", 0)


def claim(folder, options, resume, fixed=(), free=()):
    """Make and lock a folder for several runs; without resume, an earlier one is moved aside.

    options: written to config.json, for --resume; fixed: as in Run.start; free: those that may
    change on resume, besides FREE_OPTIONS.
    Raises: RunError if the folder cannot be written, another process writes into it, or the
    options do not fit.
    """
    with _claimed(folder):
        if folder.is_dir():
            if resume:
                _check_options(folder, options, fixed, free, may_shorten=False)
            else:
                print(f"the earlier runs are kept in {move_aside(folder)}")
        folder.resolve().mkdir(parents=True, exist_ok=True)
        remove_parts(folder)
        write_json(folder / "config.json", options)


@contextmanager
def folder_of_runs(folder, options, resume, fixed=(), free=()):
    """The same for as long as the body runs."""
    claim(folder, options, resume, fixed, free)
    try:
        yield
    finally:
        unlock(folder)


@contextmanager
def _claimed(folder):
    """Lock a folder; if the body fails, let go of it. Raises: RunError if it cannot be written."""
    place = folder.resolve()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock(folder)
        yield
        flush_folder(place.parent)
    except BaseException as error:
        unlock(folder)
        if isinstance(error, OSError):
            reason = f"{error.strerror or error}{no_room(error)}"
            raise RunError(f"cannot write to {folder}: {reason}") from error
        raise


def _check_options(folder, options, fixed=(), free=(), may_shorten=True):
    """Refuse to resume a run with other options than it had."""
    before = read_json_if_there(folder / "config.json")
    if not may_shorten and before.get("epochs", 0) > options["epochs"]:
        raise RunError(
            f"cannot resume {folder} with --epochs {options['epochs']}: it was {before['epochs']}, "
            "and fewer are another run"
        )
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


def _results(folder):
    """What results.json says; empty if there is none. Raises: RunError if it is damaged."""
    path = folder / "results.json"
    results = read_json_if_there(path)
    for name, kind in RESULT_TYPES.items():
        if name in results and not isinstance(results[name], kind):
            shown = f"{results[name]!r:.40}"
            raise RunError(f"{path} is damaged: {name} is {shown}, expected {kind.__name__}")
    if results.get("status") == "finished" and "epochs" not in results:
        raise RunError(f"{path} is damaged: it does not say how many epochs are finished")
    return results


def _check_facts(folder, before, facts):
    """Refuse to resume a run on other data; warn where the rounding may be another."""
    for name in SAME_FACTS:
        if name in before and before[name] != facts.get(name):
            raise RunError(
                f"cannot resume {folder} on other data: {name.replace('_', ' ')} was "
                f"{before[name]}, now it is {facts.get(name)}"
            )
    before = {**before, **before.get("versions", {})}
    facts = {"processes": 1, **facts, **facts.get("versions", {})}
    changes = [
        f"{name.replace('_', ' ')} {before[name]} before, {facts.get(name)} now"
        for name in ROUNDING_FACTS
        if name in before and before[name] != facts.get(name)
    ]
    if changes:
        print(
            f"warning: {'; '.join(changes)}: the last digits may differ from those of an "
            "uninterrupted run"
        )


def move_aside(folder):
    """Rename a folder to the first free of folder.1, folder.2 and so on; the new path."""
    folder, number = folder.resolve(), 1
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
    return shell_line(["python3", str(script), *place])


def _command_without(flags):
    """The line that started this script, without some of its options."""
    words, keep = ["python3", sys.argv[0]], True
    for word in sys.argv[1:]:
        if word.startswith("--"):
            keep = word.partition("=")[0] not in flags
        words += [word] * keep
    return shell_line(words)
