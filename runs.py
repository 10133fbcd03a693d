"""A run: its options, its folder, its history, its checkpoints, and how it ends.

Every file is written under another name in the same folder, flushed to the disk and then renamed:
whenever the process dies, each file is the whole old one or the whole new one.
"""

import argparse
import csv
import io
import json
import os
import platform
import signal
import sys
import threading
import time
import zipfile
from contextlib import contextmanager, suppress
from dataclasses import MISSING, asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
HISTORY_COLUMNS = ["epoch", "lr", "train_loss", "train_acc", "valid_loss", "valid_acc", "seconds"]
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


def option(default, help, minimum=None, choices=None):
    """A field of a Config: its default, its line in --help, and its bounds."""
    metadata = {"help": help, "minimum": minimum, "choices": choices}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
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


def _path_option(variable, folder):
    return lambda: os.environ.get(variable) or str(HERE / folder)


@dataclass(kw_only=True)
class CommonConfig:
    """The options that all scripts share. A script's Config adds its own and their defaults."""

    data_dir: str = option(_path_option("DATA_DIR", "datasets"), "folder of the data sets")
    save_dir: str = option(_path_option("SAVE_DIR", "out"), "folder that gets a folder for the run")
    dataset: str = option("auto", "auto: the real data, else generated", choices=())
    train_size: int | None = option(None, "number of training images; all if not given", minimum=1)
    epochs: int = option(8, "passes over the training images", minimum=1)
    batch_size: int = option(50, "images in a step", minimum=1)
    lr_scale: float = option(1.0, "factor on the learning rates of the schedule", minimum=0.0)
    seed: int = option(0, "of initial weights and of the order of the images", minimum=0)
    threads: int = option(available_threads, "processors to use", minimum=1)
    resume: bool = option(False, "go on with the interrupted run in the save folder")

    def __post_init__(self):
        for f in fields(self):
            value, minimum, choices = getattr(self, f.name), *_bounds(f)
            if minimum is not None and value is not None:
                for number in value if isinstance(value, list | tuple) else [value]:
                    if not number >= minimum:  # refuses a nan, too
                        raise RunError(
                            f"{_flag(f)}: expected a number of at least {minimum}, got {number}"
                        )
            if choices and value not in choices:
                raise RunError(f"{_flag(f)}: expected one of {', '.join(choices)}, got {value!r}")


def _bounds(f):
    return f.metadata.get("minimum"), f.metadata.get("choices")


def _flag(f):
    return "--" + f.name.replace("_", "-")


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


def parse(config_class, argv, description):
    """A config_class from the command line argv (None: sys.argv); exits with one line on errors."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = _Parser(description=description, formatter_class=formatter, allow_abbrev=False)
    for f in fields(config_class):
        default = f.default if f.default is not MISSING else f.default_factory()
        text = f.metadata["help"] + ("" if default in (None, False) else f" [{_shown(default)}]")
        if isinstance(default, bool):
            parser.add_argument(_flag(f), action="store_true", help=text)
        elif isinstance(default, list):
            kind = type(default[0])
            parser.add_argument(_flag(f), type=kind, nargs="+", default=default, help=text)
        else:
            kind = int if default is None else type(default)
            shown = "|".join(f.metadata["choices"] or ()) or kind.__name__.upper()
            parser.add_argument(_flag(f), type=kind, default=default, metavar=shown, help=text)
    try:
        return config_class(**vars(parser.parse_args(argv)))
    except RunError as error:
        parser.error(str(error))


def _shown(default):
    return " ".join(map(str, default)) if isinstance(default, list) else default


@contextmanager
def one_line_errors(*kinds):
    """Turn the errors a user can mend, RunError, OSError and `kinds`, into one line and status 1.

    After a signal the status is 128 + its number, as in a shell.
    """
    script = Path(sys.argv[0]).name
    try:
        yield
    except Interrupted as stop:
        print(f"{script}: {stop}", file=sys.stderr)
        sys.exit(128 + stop.signum)
    except KeyboardInterrupt:
        print(f"{script}: stopped", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except (RunError, OSError, *kinds) as error:
        message = " ".join(str(error).split())
        sys.exit(f"{script}: error: {message}")


# --- files --------------------------------------------------------------------------------------


def write_whole(path, content):
    """Write bytes or text under a temporary name, flush them to the disk, and rename."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_arrays(path, arrays):
    """A dict of arrays as an .npz file, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def write_table(path, columns, rows):
    """Rows, mappings with the keys `columns` at least, as a .csv file, whole or not at all."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, buffer.getvalue())


def write_json(path, values):
    write_whole(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from error


# --- a run's folder -----------------------------------------------------------------------------


@dataclass
class Position:
    """Where training is: the epoch, the steps done in it, and the sums over these."""

    epoch: int = 1
    step: int = 0
    num_seen: int = 0  # images
    num_correct: int = 0  # of these
    loss_sum: float = 0.0  # over these
    seconds: float = 0.0


class Run:
    """One training run and its folder. Made by Run.start.

    history: one dict an epoch, with the keys HISTORY_COLUMNS at least. results: what results.json
    holds. is_finished: whether it is resumed and had come to its end.
    """

    FREE_OPTIONS = ("data_dir", "save_dir", "resume", "threads", "epochs")  # may change on --resume
    MARKS = ("config.json", "history.csv", "results.json", "checkpoint.npz", "checkpoint.pt")

    def __init__(self, folder, resuming):
        self.folder = folder
        self.history = []
        self.results = {}
        self.resuming = resuming
        self.is_finished = False
        self._signum = None
        self._watching = False

    @classmethod
    def start(cls, folder, options=None, resume=False, **facts):
        """Begin a run in folder, or go on with the one that is there.

        options: the run's options by name, written to config.json; on resume those that matter must
        be as they were. facts: what results.json says from the start, such as the dataset.
        A folder that holds an earlier run is moved aside, to folder.1 and so on. Where there is
        nothing to resume, the run begins.
        Raises: RunError if the folder cannot be written or the options do not fit.
        """
        folder, options = Path(folder), options or {}
        resume = resume and (folder / "config.json").exists()
        if resume:
            cls._check_options(folder, options)
            cls._check_facts(folder, facts)
        elif any((folder / name).exists() for name in cls.MARKS):
            print(f"the earlier run is kept in {move_aside(folder)}")
        try:
            (folder / "filters").mkdir(parents=True, exist_ok=True)
            write_json(folder / "config.json", options)
        except OSError as error:
            raise RunError(f"cannot write to {folder}: {error.strerror or error}") from error
        run = cls(folder, resume)
        run.results = _read_json(folder / "results.json") if resume else {}
        epochs = options.get("epochs", 0)
        if run.results.get("status") == "finished" and run.results["epochs"] >= epochs:
            run.is_finished = True
            print(f"{folder} is finished: {run.results['epochs']} epochs; nothing to resume")
        else:
            run.write_results(status="running", **facts)
        return run

    @staticmethod
    def _check_options(folder, options):
        before = _read_json(folder / "config.json")
        for name, value in options.items():
            if name not in Run.FREE_OPTIONS and name in before and before[name] != value:
                raise RunError(
                    f"cannot resume {folder} with another --{name.replace('_', '-')}: "
                    f"it was {before[name]}, now it is {value}"
                )
        if options.get("threads") != before.get("threads"):
            print(
                f"warning: {before.get('threads')} threads before, {options.get('threads')} now: "
                "the last digits may differ from those of an uninterrupted run"
            )

    @staticmethod
    def _check_facts(folder, facts):
        before = _read_json(folder / "results.json")
        for name in ("dataset", "provenance"):
            if name in before and before[name] != facts.get(name):
                raise RunError(
                    f"cannot resume {folder} on other data: {name} was {before[name]}, "
                    f"now it is {facts.get(name)}"
                )

    def write_results(self, **values):
        """Add values to results.json."""
        self.results.update(values)
        write_json(self.folder / "results.json", self.results)

    def finish_epoch(self, row, params, position):
        """Add a row to the history and save where the next epoch starts."""
        self.history.append(row)
        self.save_checkpoint(params, position)
        write_table(self.folder / "history.csv", HISTORY_COLUMNS, self.history)

    def save_checkpoint(self, params, position):
        """Write the parameters, the history and the position to checkpoint.npz."""
        for name, array in params.items():
            if not np.isfinite(array).all():
                raise Diverged(f"{name} is not finite at epoch {position.epoch}")
        state = json.dumps({"position": asdict(position), "history": self.history})
        arrays = {f"param:{name}": array for name, array in params.items()}
        write_arrays(self.folder / "checkpoint.npz", {"state": np.array(state), **arrays})

    def restore(self, params):
        """Set params from checkpoint.npz, in place, if there is one; where to go on from.

        Raises: RunError if the file is damaged or belongs to another network.
        """
        path = self.folder / "checkpoint.npz"
        if not self.resuming or not path.exists():
            return Position()
        try:
            # np.load leaves a damaged file open; this does not
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                saved = {name: arrays[name] for name in arrays.files}
            state = json.loads(str(saved.pop("state")))
            position = Position(**state["position"])
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise RunError(f"{path} is damaged: {error}") from error
        saved = {name.removeprefix("param:"): array for name, array in saved.items()}
        theirs = {name: array.shape for name, array in saved.items()}
        ours = {name: array.shape for name, array in params.items()}
        if theirs != ours:
            raise RunError(f"{path} is of another network: expected {ours}, got {theirs}")
        for name, array in params.items():
            array[...] = saved[name]
        self.history = state["history"]
        if not self.is_finished:
            print(f"resuming {self.folder} in epoch {position.epoch} after step {position.step}")
        return position

    def progress(self, position, num_steps, title):
        """The steps from position.step to num_steps, shown as they go by.

        On a terminal a bar; otherwise a plain line every PLAIN_LINE_SECONDS.
        """
        started = last_line = time.monotonic()
        first = position.step
        bar = tqdm(
            range(first, num_steps),
            title,
            num_steps,
            initial=first,
            leave=False,
            disable=not sys.stderr.isatty(),
            unit="step",
        )
        for step in bar:
            yield step
            now = time.monotonic()
            if not bar.disable:
                bar.set_postfix_str(f"loss {position.loss_sum / position.num_seen:.4f}", False)
            elif now - last_line >= PLAIN_LINE_SECONDS:
                last_line = now
                milliseconds = 1000 * (now - started) / (step + 1 - first)
                loss = position.loss_sum / position.num_seen
                print(
                    f"{title}: step {step + 1}/{num_steps}, loss {loss:.4f}, "
                    f"{milliseconds:.1f} ms a step",
                    flush=True,
                )

    def check_finite(self, loss, position, lr):
        """Raise Diverged unless the loss of the coming step is finite."""
        if not np.isfinite(loss):
            mean = f"{position.loss_sum / position.num_seen:.4g}" if position.num_seen else "none"
            raise Diverged(
                f"the loss is {loss} in epoch {position.epoch}, step {position.step + 1}, at "
                f"learning rate {lr:g} (mean loss of the epoch until then: {mean}); "
                "try a smaller --lr-scale"
            )

    @contextmanager
    def recording(self):
        """Note in results.json how the body ends, and let SIGINT and SIGTERM end it gently.

        The first signal is only remembered, for stop_if_asked; a second one ends at once.
        """
        if self._watching:  # inside another one
            yield
            return
        self._watching = True
        earlier = {}
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                earlier[signum] = signal.signal(signum, self._on_signal)
        try:
            yield
        except (KeyboardInterrupt, Interrupted):
            self.write_results(status="interrupted")
            raise
        except Diverged:
            self.write_results(status="diverged")
            raise
        finally:
            self._watching = False
            for signum, handler in earlier.items():
                signal.signal(signum, handler)

    def _on_signal(self, signum, _frame):
        if self._signum is not None:
            raise KeyboardInterrupt
        self._signum = signum

    def stop_if_asked(self, params, position):
        """After a signal: save and raise Interrupted."""
        if self._signum is None:
            return
        self.save_checkpoint(params, position)
        raise Interrupted(
            self._signum,
            f"interrupted in epoch {position.epoch} after step {position.step}; the same command "
            "with --resume goes on from there",
        )


def move_aside(folder):
    """Rename folder to the first free of folder.1, folder.2 and so on; the new path."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    return folder.rename(aside)


def software(*packages):
    """The versions and the platform, for results.json."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    return {"versions": versions, "platform": platform.platform()}
