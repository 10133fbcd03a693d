"""A run: its options, its folder, its history, its checkpoints, and how it ends."""

import argparse
import difflib
import errno
import hashlib
import io
import json
import math
import os
import platform
import shlex
import signal
import sys
import threading
import time
import zipfile
from contextlib import contextmanager, suppress
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path

from support import surroundings
from support.files import read_arrays, read_json, write_json, write_whole
from support.tables import write_table

import numpy as np
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
HISTORY_COLUMNS = ["epoch", "lr", "train_loss", "train_acc", "valid_loss", "valid_acc", "seconds"]
STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")  # signals; Windows does not have the last
PLAIN_LINE_SECONDS = 10  # between two progress lines where there is no terminal


class RunError(ValueError):
    """A run that cannot start or go on; the message says in one line why and what to do."""


class Diverged(RunError):  # noqa: N818 -- an event, as below
    """A loss or a parameter is no longer finite."""


class Interrupted(Exception):  # noqa: N818 -- an event, not an error
    """A signal ended the run after it was saved; signum says which."""

    def __init__(self, signum, message):
        super().__init__(message)
        self.signum = signum


# --- options ------------------------------------------------------------------------------------


def option(default, help, minimum=None, maximum=None, choices=None, is_folder=False):
    """A field of a Config: its default, its line in --help, and its bounds."""
    metadata = {"help": help, "minimum": minimum, "maximum": maximum, "choices": choices}
    metadata["is_folder"] = is_folder
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def other_default(config_class, name, default):
    """The field of that name in a Config, with another default."""
    metadata = config_class.__dataclass_fields__[name].metadata
    return field(default=default, metadata=metadata)


def available_threads():
    """Processors this process may use: its affinity, and its container's quota on Linux."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, -(-int(quota) // int(period))))
    except (OSError, ValueError):  # no such file, or no limit ("max 100000")
        return cores


def folder_option(variable, default, help):
    """An option that names a folder; its default is in the environment, or beside the scripts."""

    def value():
        return _folder(variable, os.environ.get(variable)) or str(HERE / default)

    return option(value, help, is_folder=True)


def _folder(name, text):
    try:
        return surroundings.folder(text)
    except (ValueError, OSError) as error:
        raise RunError(f"{name}: {error}") from error


@dataclass(kw_only=True)
class CommonConfig:
    """The options that all scripts share. A script's Config adds its own and their defaults."""

    data_dir: str = folder_option("DATA_DIR", "datasets", "folder of the data sets")
    save_dir: str = folder_option("SAVE_DIR", "out", "folder that gets a folder for the run")
    dataset: str = option("auto", "auto: the real data, else generated", choices=())
    train_size: int | None = option(None, "number of training images; all if not given", minimum=1)
    epochs: int = option(8, "passes over the training images", minimum=1, maximum=100_000)
    batch_size: int = option(50, "images in a step", minimum=1, maximum=60_000)
    lr_scale: float = option(
        1.0, "factor on the learning rates of the schedule", minimum=0.0, maximum=10**9
    )
    seed: int = option(
        0, "of initial weights and of the order of the images", minimum=0, maximum=2**32 - 1
    )
    threads: int = option(
        available_threads, "processors to use", minimum=1, maximum=surroundings.MAX_THREADS
    )
    resume: bool = option(
        False, "go on with the interrupted run in the save folder, with its options"
    )
    checkpoint_minutes: float = option(
        5.0, "minutes between checkpoints within an epoch", minimum=0.0, maximum=10**6
    )

    def __post_init__(self):
        for f in fields(self):
            value, choices = getattr(self, f.name), f.metadata.get("choices")
            for number in value if isinstance(value, list | tuple) else [value]:
                if wrong := _out_of_bounds(number, f.metadata):
                    raise RunError(f"{_flag(f.name)}: expected a {wrong}, got {number}")
            if choices and value not in choices:
                raise RunError(
                    f"{_flag(f.name)}: expected one of {', '.join(choices)}, got {value!r}"
                    + _did_you_mean(str(value), choices)
                )


def _out_of_bounds(number, bounds):
    """What a number should have been, if it is not: "number of at least 1"."""
    low, high = bounds.get("minimum"), bounds.get("maximum")
    if number is None or (low, high) == (None, None):
        return None
    if not isinstance(number, int | float):
        return "number"
    if low is not None and not number >= low:  # this refuses a nan, too
        return f"number of at least {low}"
    if high is not None and not number <= high:
        return f"number of at most {high}"
    return None if math.isfinite(number) else "finite number"


def _flag(name):
    return "--" + name.replace("_", "-")


def _did_you_mean(word, known):
    """The most similar of the known words as an addition to a message, if one is similar."""
    longer = [other for other in known if len(word) > 2 and other.startswith(word)]
    similar = longer or difflib.get_close_matches(word, known, 1)
    return f"; did you mean {similar[0]}?" if similar else ""


class _Parser(argparse.ArgumentParser):
    """Knows of the options that were given, and of no others; what is wrong is said in one line."""

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, argument_default=argparse.SUPPRESS, **kwargs)

    def parse_args(self, argv):
        given, unknown = self.parse_known_args(argv)
        if unknown:
            flag = unknown[0].partition("=")[0]
            similar = _did_you_mean(flag.replace("_", "-"), list(self._option_string_actions))
            self.error(f"unrecognized arguments: {' '.join(unknown)}{similar}")
        return given

    def error(self, message):
        message = " ".join(message.split())
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


def parse(config_class, argv, description, script=None):
    """A config_class from the command line argv (None: sys.argv); exits with one line on errors.

    script: the name of the run's folder; with --resume, options that are not given are as in its
    config.json.
    """
    surroundings.make_text_harmless()
    formatter = argparse.RawDescriptionHelpFormatter
    parser = _Parser(description=description, formatter_class=formatter)
    try:
        Path.cwd()
    except FileNotFoundError:
        parser.error("the current folder was deleted: cd to another one")
    try:
        for f in fields(config_class):
            _add_option(parser, f)
        given = vars(parser.parse_args(argv))
        for f in fields(config_class):
            if f.metadata["is_folder"] and f.name in given:
                given[f.name] = _folder(_flag(f.name), given[f.name])
        return config_class(**{**_earlier_options(config_class, argv, script), **given})
    except RunError as error:
        parser.error(str(error))


def _add_option(parser, f):
    """Tell a parser of a field of a Config."""
    default = f.default if f.default is not MISSING else f.default_factory()
    has_default = default not in (None, "") and default is not False
    # "%" has a meaning in argparse's help
    value = f" [{_shown(default)}]".replace("%", "%%") if has_default else ""
    text = f.metadata["help"] + value
    if default is True:
        kind = argparse.BooleanOptionalAction
        parser.add_argument(_flag(f.name), action=kind, help=f.metadata["help"])
    elif default is False:
        parser.add_argument(_flag(f.name), action="store_true", help=text)
    elif isinstance(default, list):
        parser.add_argument(_flag(f.name), type=type(default[0]), nargs="+", help=text)
    else:
        kind = int if default is None else type(default)
        shown = "|".join(f.metadata["choices"] or ()) or kind.__name__.upper()
        parser.add_argument(_flag(f.name), type=kind, metavar=shown, help=text)


def one_option(argv, name, default, script=None):
    """The value of one option, to be known before parse is told what the others are.

    script: as in parse.
    """
    parser = _Parser(add_help=False)
    try:
        default = _resumed(argv, script).get(name, default)
    except RunError as error:
        parser.error(str(error))
    parser.add_argument(_flag(name), default=default, dest="value")
    return parser.parse_known_args(argv)[0].value


def _earlier_options(config_class, argv, script):
    """The options of the run that argv asks to resume, but those that say where things are now."""
    now = {"save_dir", "resume", *(["data_dir"] if os.environ.get("DATA_DIR") else [])}
    known = {f.name for f in fields(config_class)} - now
    return {name: value for name, value in _resumed(argv, script).items() if name in known}


def _resumed(argv, script):
    """What config.json says in the folder of the run that argv asks to resume; empty if none."""
    if script is None:
        return {}
    parser = _Parser(add_help=False)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--save-dir")
    given = vars(parser.parse_known_args(argv)[0])
    if "resume" not in given:
        return {}
    default = CommonConfig.__dataclass_fields__["save_dir"].default_factory
    save_dir = _folder("--save-dir", given.get("save_dir")) or default()
    return _read_json(Path(save_dir) / script / "config.json")


def _shown(default):
    if isinstance(default, list):
        return " ".join(map(str, default))
    return f"{default:g}" if isinstance(default, float) else default


@contextmanager
def one_line_errors(*kinds):
    """Turn the errors a user can mend, RunError, OSError and `kinds`, into one line and status 1.

    After a signal the status is 128 + its number, as in a shell.
    """
    script = Path(sys.argv[0]).name
    try:
        yield
    except Interrupted as stop:
        _last_words(f"{script}: {stop}", 128 + stop.signum)
    except KeyboardInterrupt:
        _last_words(f"{script}: stopped", 128 + signal.SIGINT)
    except BrokenPipeError:  # the reader, head for example, has seen enough
        surroundings.discard_output()
        sys.exit(128 + 13)  # SIGPIPE, as in a shell
    except MemoryError as error:
        message = " ".join(f"not enough memory: {error}".split())
        sys.exit(f"{script}: error: {message}; a smaller --batch-size needs less")
    except (RunError, OSError, *kinds) as error:
        message = " ".join(str(error).split()) + surroundings.no_room(error)
        sys.exit(f"{script}: error: {message}")


def _last_words(message, status):
    """Exit with a status and a message, even if there is no terminal left to show it."""
    with suppress(OSError):
        print(message, file=sys.stderr, flush=True)
    surroundings.discard_output()
    sys.exit(status)


def _read_json(path):
    try:
        return read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read or is damaged: {error}") from error


# --- locks --------------------------------------------------------------------------------------

IN_USE = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # all else: there are no locks here

# filelock does not say who holds a lock, and its older versions take every error for a held one
_locks = {}  # path: descriptor; the system lets go of them when the process ends, however it does


def lock(folder):
    """Make this process the only one that writes into folder, until it ends; where the file system
    knows no locks, warn and do without.

    Raises: RunError, with the number of the other process, if another one does already.
    """
    path = Path(folder).resolve() / ".lock"
    if path in _locks:
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock_file(descriptor)
    except OSError as error:
        if error.errno in IN_USE:
            owner = os.read(descriptor, 100).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise RunError(
                f"{folder} is in use by process {owner}; wait for it or stop it"
            ) from None
        _warn_of_no_locks(folder.parent, error.strerror)
    os.truncate(path, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    _locks[path] = descriptor


@cache
def _warn_of_no_locks(folder, reason):
    """Once for all runs of a folder."""
    print(
        f"warning: no locks in {folder} ({reason}): see to it that no other run writes there",
        file=sys.stderr,
    )


def unlock(folder):
    """Let others write into folder."""
    path = Path(folder).resolve() / ".lock"
    if path in _locks:
        os.close(_locks.pop(path))
        with suppress(OSError):
            path.unlink()


def is_in_use(folder):
    """Whether a process, this one or another, writes into folder, or may do so."""
    path = Path(folder).resolve() / ".lock"
    if path in _locks:
        return True
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        _lock_file(descriptor)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


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
    reason = f"{error.strerror or error}{surroundings.no_room(error)}"
    return RunError(f"cannot write to {folder}: {reason}")


def _check_options(folder, options, fixed=(), free=()):
    """Refuse to resume a run with other options than it had."""
    before = _read_json(folder / "config.json")
    free = {*FREE_OPTIONS, *free} - {*fixed}
    others = [name for name in options if before.get(name, options[name]) != options[name]]
    others = [name for name in others if name not in free]
    if others:
        changes = ", another ".join(
            f"{_flag(name)}: it was {before[name]}, now it is {options[name]}" for name in others
        )
        flags = {_flag(prefix + name) for name in others for prefix in ("", "no_")}
        raise RunError(
            f"cannot resume {folder} with another {changes}; with the options that it had: "
            f"{_command_without(flags)}"
        )


def _lock_file(descriptor):
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, 1_000_000, os.SEEK_SET)  # beyond the content, which others may read
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


# --- a run's folder -----------------------------------------------------------------------------

# options that may change on --resume
FREE_OPTIONS = ("data_dir", "save_dir", "resume", "threads", "epochs", "checkpoint_minutes")


@dataclass
class Position:
    """Where training is: the epoch, the steps done in it, and the sums over these."""

    epoch: int = 1
    step: int = 0
    num_seen: int = 0  # images
    num_correct: int = 0  # of these
    loss_sum: float = 0.0  # over these
    last_loss: float | None = None  # of a step
    lr: float = 0.0  # of the last step
    seconds: float = 0.0


class Run:
    """One training run and its folder. Made by Run.start. A training loop looks like this:

        run.restore_arrays(params)                      # where --resume has something to go on from
        with run.recording():
            for epoch in run.epochs(max_epochs):
                for step, batch in run.batches(num_images, batch_size, seed):
                    ...                                 # loss and number of right answers
                    run.count(loss, num_correct, len(batch), lr)
                    ...                                 # update
                row = run.epoch_row(valid_loss, valid_acc)
                run.finish_epoch(row)

    The run draws the batches, shows the progress, keeps the history, saves checkpoints and reacts
    to signals. history: one dict an epoch, with the keys HISTORY_COLUMNS at least. results: what
    results.json holds. position: see Position. is_finished: whether it is resumed and had come to
    its end. agree: where several processes train together, a function that all of them call after
    each step, with the number of the signal that they got or None; it tells all the same.
    has_bar: whether a terminal shows a bar.
    """

    # what decides on the last digits, in results.json
    ROUNDING_FACTS = ("threads", "processes", "device", "multiplied_in")
    MARKS = ("config.json", "history.csv", "results.json", "checkpoint.npz", "checkpoint.pt")

    def __init__(self, folder, options, resuming):
        self.folder = folder
        self.history = []
        self.results = {}
        self.position = Position()
        self.is_finished = False
        self.agree = None
        self.has_bar = sys.stderr.isatty()
        self._resuming = resuming
        save_dir = options.get("save_dir", str(HERE / "out"))
        self._place = ["--save-dir", save_dir] if save_dir != str(HERE / "out") else []
        self._checkpoint_seconds = 60 * options.get("checkpoint_minutes", 5)
        self._max_epochs = 0
        self._state = dict  # returns what is to be saved
        self._format = _Arrays
        self._signum = None
        self._recording = False
        self._may_stop_here = False

    @classmethod
    def start(cls, folder, options=None, resume=False, fixed=(), **facts):
        """Begin a run in folder, or go on with the one that is there.

        options: the run's options by name, written to config.json; on resume those that matter must
        be as they were: all but FREE_OPTIONS, and the fixed ones of these. facts: what results.json
        says from the start, such as the dataset.
        A folder that holds an earlier run is moved aside, to folder.1 and so on. Where there is
        nothing to resume, the run begins.
        Raises: RunError if the folder cannot be written, another process writes into it, or the
        options do not fit.
        """
        folder, options = Path(folder), options or {}
        try:
            if folder.is_dir():
                lock(folder)
            if resume and not (folder / "config.json").exists():
                print(f"{folder} holds no run that could be resumed: a new one begins")
                resume = False
            if resume:
                _check_options(folder, options, fixed)
                cls._check_facts(folder, facts)
            elif any((folder / name).exists() for name in cls.MARKS):
                print(f"the earlier run is kept in {move_aside(folder)}")
            (folder / "filters").mkdir(parents=True, exist_ok=True)
            lock(folder)
            write_json(folder / "config.json", options)
        except OSError as error:
            raise _cannot_write(folder, error) from error
        run = cls(folder, options, resume)
        run.results = _read_json(folder / "results.json") if resume else {}
        epochs = options.get("epochs", 0)
        if run.results.get("status") == "finished" and run.results["epochs"] >= epochs:
            run.is_finished = True
            print(f"{folder} is finished: {run.results['epochs']} epochs; nothing to resume")
        else:
            run.write_results(status="running", **facts)
            _hint_at_other_programs(options.get("threads", 1))
        return run

    @staticmethod
    def _check_facts(folder, facts):
        before = _read_json(folder / "results.json")
        for name in ("dataset", "provenance"):
            if name in before and before[name] != facts.get(name):
                raise RunError(
                    f"cannot resume {folder} on other data: {name} was {before[name]}, "
                    f"now it is {facts.get(name)}"
                )
        for name in Run.ROUNDING_FACTS:
            if name in before and before[name] != facts.get(name):
                print(
                    f"warning: {name.replace('_', ' ')} {before[name]} before, {facts.get(name)} "
                    "now: the last digits may differ from those of an uninterrupted run"
                )

    def write_results(self, **values):
        """Add values to results.json."""
        self.results.update(values)
        write_json(self.folder / "results.json", self.results)

    def finish(self, **values):
        """Add values to results.json, mark the run as finished and let go of its folder."""
        self.write_results(
            status="finished",
            epochs=len(self.history),
            seconds=sum(row["seconds"] for row in self.history),
            **values,
        )
        with suppress(OSError):
            self._checkpoint_paths()[1].unlink()
        unlock(self.folder)

    # --- checkpoints ---

    def restore_arrays(self, params):
        """Save params, a dict of NumPy arrays, in checkpoints; set them in place from the last one.

        In place of the dict, an object with arrays(), which returns it, and load(dict).
        Raises: RunError if there are checkpoints and none is whole, or of this network.
        """
        if not isinstance(params, dict):
            self._restore(_Arrays, params.arrays, params.load)
            return

        def load(saved):
            theirs = {name: array.shape for name, array in saved.items()}
            ours = {name: array.shape for name, array in params.items()}
            if theirs != ours:
                raise RunError(f"expected {ours}, got {theirs}")
            for name, array in params.items():
                array[...] = saved[name]

        self._restore(_Arrays, lambda: params, load)

    def restore_torch(self, **parts):
        """The same for objects with state_dict and load_state_dict: models, optimizers ..."""

        def load(saved):
            try:
                for name, part in parts.items():
                    part.load_state_dict(saved[name])
            except (KeyError, RuntimeError, ValueError) as error:
                raise RunError(" ".join(str(error).split())) from error

        def state():
            return {name: part.state_dict() for name, part in parts.items()}

        self._restore(_Tensors, state, load)

    def _restore(self, file_format, state, load):
        self._format, self._state = file_format, state
        problems = []
        for path in self._checkpoint_paths() if self._resuming else ():
            if not path.exists():
                continue
            try:
                saved, notes = file_format.read(path)
                position = Position(**notes["position"])
            except _DAMAGES as error:
                problems.append(f"{path} is damaged: {error}")
                continue
            try:
                load(saved)
            except ValueError as error:
                raise RunError(f"{path} is of another network: {error}") from error
            if problems:
                print(f"warning: {problems[0]}; going on from {path}", file=sys.stderr)
            self.position, self.history = position, notes["history"]
            if not self.is_finished:
                print(
                    f"resuming {self.folder} in epoch {position.epoch} after step {position.step}"
                )
            if self.history:
                write_table(self.folder / "history.csv", HISTORY_COLUMNS, self.history)
            return
        if problems:
            raise RunError("; ".join(problems))

    def _checkpoint_paths(self):
        """The newest checkpoint and the one before."""
        suffix = self._format.suffix
        return self.folder / f"checkpoint{suffix}", self.folder / f"checkpoint.previous{suffix}"

    def save_checkpoint(self):
        """Save state, history and position; the checkpoint before is kept.

        Raises: Diverged, and leaves the files alone, if an array is not finite.
        """
        state = self._state()
        for name, array in _leaves(state):
            if not self._format.is_finite(array):
                raise Diverged(
                    f"{name} is not finite any more in epoch {self.position.epoch}, "
                    f"step {self.position.step}, at learning rate {self.position.lr:g}; "
                    f"{self._advice()}"
                )
        newest, previous = self._checkpoint_paths()
        content = self._format.encode(
            state, {"position": asdict(self.position), "history": self.history}
        )
        with suppress(FileNotFoundError):
            newest.replace(previous)
        write_whole(newest, content)
        self._last_save = time.monotonic()

    # --- the training loop ---

    def epochs(self, max_epochs):
        """The epochs to come, counted from 1; each has to end with finish_epoch."""
        self._max_epochs = max_epochs
        self._last_save = time.monotonic()
        while self.position.epoch <= max_epochs:
            yield self.position.epoch

    def batches(self, num_images, batch_size, seed):
        """The steps to come of this epoch: (number of the step from 1, indices of its images).

        The order depends on the seed and the epoch alone. After each step there may be a
        checkpoint; after a signal there is one, and Interrupted.
        """
        at = self.position
        order = np.random.default_rng([seed, at.epoch]).permutation(num_images)
        num_steps = -(-num_images // batch_size)
        title = f"epoch {at.epoch}/{self._max_epochs}"
        started = time.perf_counter() - at.seconds
        for step in self._progress(num_steps, title):
            yield step + 1, order[step * batch_size : (step + 1) * batch_size]
            at.step = step + 1
            at.seconds = time.perf_counter() - started
            self._stop_if_told()
            if time.monotonic() - self._last_save >= self._checkpoint_seconds:
                self.save_checkpoint()
        print(
            f"{title}: lr {at.lr:g}, training loss {at.loss_sum / at.num_seen:.4f}, "
            f"accuracy {at.num_correct / at.num_seen:.2%}, {at.seconds:.1f} s",
            flush=True,
        )

    def count(self, loss, num_correct, num_images, lr):
        """Add a step's mean loss and right answers to those of the epoch; lr: for messages.

        Raises: Diverged unless the loss is finite. So it belongs before the update.
        """
        at = self.position
        if not np.isfinite(loss):
            last = "none" if at.last_loss is None else f"{at.last_loss:.4g}"
            raise Diverged(
                f"the loss is {loss} in epoch {at.epoch}, step {at.step + 1}, at learning rate "
                f"{lr:g}; the last finite loss was {last}; {self._advice()}"
            )
        at.last_loss, at.lr = float(loss), lr
        at.num_seen += num_images
        at.num_correct += int(num_correct)
        at.loss_sum += float(loss) * num_images

    def _advice(self):
        advice = "try a smaller --lr-scale"
        if self._format is _Arrays:  # gradients written by hand
            advice += ", or check the gradients: python3 check_grads.py"
        return advice

    def epoch_row(self, valid_loss, valid_acc):
        """The row of the history for the epoch that is about to finish."""
        at = self.position
        return {
            "epoch": at.epoch,
            "lr": at.lr,
            "train_loss": at.loss_sum / at.num_seen,
            "train_acc": at.num_correct / at.num_seen,
            "valid_loss": valid_loss,
            "valid_acc": valid_acc,
            "seconds": at.seconds,
        }

    def finish_epoch(self, row):
        """Add a row to the history, and save where the next epoch starts."""
        self.history.append(row)
        at = self.position
        self.position = Position(epoch=at.epoch + 1, last_loss=at.last_loss, lr=at.lr)
        self.save_checkpoint()
        write_table(self.folder / "history.csv", HISTORY_COLUMNS, self.history)
        self._stop_if_told()

    def _progress(self, num_steps, title):
        """The numbers of the steps, shown as they go by: on a terminal a bar, otherwise a plain
        line every PLAIN_LINE_SECONDS."""
        at = self.position
        started = last_line = time.monotonic()
        first = at.step
        bar = tqdm(
            range(first, num_steps),
            title,
            num_steps,
            initial=first,
            leave=False,
            disable=not self.has_bar,
            unit="step",
        )
        for step in bar:
            yield step
            now = time.monotonic()
            if not bar.disable:
                bar.set_postfix_str(f"loss {at.loss_sum / at.num_seen:.4f}", False)
            elif now - last_line >= PLAIN_LINE_SECONDS:
                last_line = now
                milliseconds = 1000 * (now - started) / (step + 1 - first)
                print(
                    f"{title}: step {step + 1}/{num_steps}, loss {at.loss_sum / at.num_seen:.4f}, "
                    f"{milliseconds:.1f} ms a step",
                    flush=True,
                )

    # --- how it ends ---

    @contextmanager
    def recording(self):
        """Note in results.json how the body ends, and let SIGINT, SIGTERM and SIGHUP, which comes
        when the terminal is closed, end it gently; one that is ignored, as nohup does, stays so.

        The first signal ends the run after the step in hand, or at once within stoppable(); a
        second one ends it at once wherever it is. Where several processes train together, signals
        keep these effects after the body.
        """
        if self._recording:  # inside another one
            yield
            return
        self._recording = True
        earlier = {}
        if threading.current_thread() is threading.main_thread():
            for signum in [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]:
                if signal.getsignal(signum) is not signal.SIG_IGN:
                    earlier[signum] = signal.signal(signum, self._on_signal)
        try:
            yield
        except (KeyboardInterrupt, Interrupted):
            self.write_results(status="interrupted")
            raise
        except Diverged:
            self.write_results(status="diverged")
            raise
        except Exception:
            with suppress(OSError):
                self.write_results(status="interrupted")
            raise
        finally:
            self._recording = False
            # when one of several processes is lost, torchrun sends SIGTERM to the others, which
            # have yet to say why they end
            for signum, handler in earlier.items() if self.agree is None else ():
                signal.signal(signum, handler)

    @contextmanager
    def stoppable(self):
        """A signal may end the body anywhere: it changes nothing that a checkpoint holds.

        Not so where several processes do it together; they stop after the next step.
        """
        if self.agree is not None:
            yield
            return
        self._may_stop_here = True
        try:
            if self._signum is not None:
                self._stop()
            yield
        finally:
            self._may_stop_here = False

    def _on_signal(self, signum, _frame):
        if self._signum is not None:
            raise KeyboardInterrupt
        self._signum = signum
        if self._may_stop_here:
            self._may_stop_here = False
            self._stop()

    def _stop_if_told(self):
        if self.agree is not None:
            self._signum = self.agree(self._signum)
        if self._signum is not None:
            self._stop()

    def _stop(self):
        """Save and raise Interrupted."""
        self.save_checkpoint()
        command = "the same command with"
        script = Path(sys.argv[0])
        if self.agree is None and script.resolve().parent == HERE:  # not by torchrun, no notebook
            command = shlex.join(["python3", str(script), *self._place])
        raise Interrupted(
            self._signum,
            f"interrupted in epoch {self.position.epoch} after step {self.position.step}; "
            f"{command} --resume goes on from there",
        )


# --- the formats of checkpoints -----------------------------------------------------------------

_DAMAGES = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile)


class _Arrays:
    """Checkpoints of NumPy arrays: .npz, with the notes and a checksum as JSON in it."""

    suffix = ".npz"

    @staticmethod
    def is_finite(array):
        return np.isfinite(array).all()

    @staticmethod
    def encode(state, notes):
        buffer = io.BytesIO()
        arrays = {f"param:{name}": array for name, array in state.items()}
        text = json.dumps({**notes, "sha256": _digest(state, notes)})
        np.savez(buffer, notes=np.array(text), **arrays)
        return buffer.getvalue()

    @staticmethod
    def read(path):
        saved = read_arrays(path)
        notes = json.loads(str(saved.pop("notes")))
        saved = {name.removeprefix("param:"): array for name, array in saved.items()}
        return _checked(saved, notes)


class _Tensors:
    """Checkpoints of PyTorch's state_dicts: .pt, with the notes and a checksum as JSON in it."""

    suffix = ".pt"

    @staticmethod
    def is_finite(tensor):
        return bool(tensor.isfinite().all())

    @staticmethod
    def encode(state, notes):
        import torch

        buffer = io.BytesIO()
        text = json.dumps({**notes, "sha256": _digest(state, notes)})
        torch.save({"notes": text, "state": state}, buffer)
        return buffer.getvalue()

    @staticmethod
    def read(path):
        import pickle

        import torch

        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError(" ".join(str(error).split())[:200]) from error
        return _checked(content["state"], json.loads(content["notes"]))


def _leaves(state, path=""):
    """(path, array) for all arrays and tensors in nested dicts and lists."""
    if isinstance(state, dict | list | tuple):
        pairs = state.items() if isinstance(state, dict) else enumerate(state)
        for name, value in pairs:
            yield from _leaves(value, f"{path}.{name}" if path else str(name))
    elif hasattr(state, "dtype"):
        yield path, state


def _digest(state, notes):
    """SHA-256 of all arrays and of the notes."""
    digest = hashlib.sha256(json.dumps(notes, sort_keys=True).encode())
    for path, array in _leaves(state):
        if hasattr(array, "detach"):
            array = array.detach().cpu().float().numpy()
        digest.update(f"{path} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _checked(state, notes):
    if notes.pop("sha256") != _digest(state, notes):
        raise ValueError("its checksum is wrong")
    return state, notes


@cache
def _hint_at_other_programs(threads):
    """Once, before a script's first training: later ones would find the load of the first."""
    if hint := surroundings.busy_hint(threads):
        print(hint)


def move_aside(folder):
    """Rename folder to the first free of folder.1, folder.2 and so on; the new path."""
    unlock(folder)  # where files are open, Windows does not rename
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    return folder.rename(aside)


def _command_without(flags):
    """The line that started this script, without some of its options."""
    words, keep = ["python3", sys.argv[0]], True
    for word in sys.argv[1:]:
        if word.startswith("--"):
            keep = word.partition("=")[0] not in flags
        words += [word] * keep
    return shlex.join(words)


def facts(options, dataset, device, *packages):
    """What results.json says from the start. dataset: with a name and a provenance; packages: those
    whose versions matter."""
    return {
        "dataset": dataset.name,
        "provenance": dataset.provenance,
        "num_train": len(dataset.train_x),
        "trains_with_valid": dataset.trains_with_valid,
        "command": shlex.join(["python3", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seed": options["seed"],
        "threads": options["threads"],
        "device": device,
        **software(*packages),
    }


def software(*packages):
    """The versions, the platform and the processor, for results.json."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    return {"versions": versions, "platform": platform.platform(), "processor": _processor()}


def _processor():
    """The name of the processor, as far as the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
