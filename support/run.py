"""A run: its folder, its history, its checkpoints, and how it ends."""

import shlex
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from support import checkpoints
from support.errors import Diverged, Interrupted, RunError
from support.facts import hint_at_other_programs
from support.files import read_json, write_json, write_table, write_whole
from support.folders import cannot_write, check_options, move_aside
from support.locks import lock, unlock
from support.start import ROOT

import numpy as np
from tqdm import tqdm

HISTORY_COLUMNS = ["epoch", "lr", "train_loss", "train_acc", "valid_loss", "valid_acc", "seconds"]
STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")  # signals; Windows does not have the last
PLAIN_LINE_SECONDS = 10  # between two progress lines where there is no terminal


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
        save_dir = options.get("save_dir", str(ROOT / "out"))
        self._place = ["--save-dir", save_dir] if save_dir != str(ROOT / "out") else []
        self._checkpoint_seconds = 60 * options.get("checkpoint_minutes", 5)
        self._max_epochs = 0
        self._state = dict  # returns what is to be saved
        self._format = checkpoints.Arrays
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
                check_options(folder, options, fixed)
                cls._check_facts(folder, facts)
            elif any((folder / name).exists() for name in cls.MARKS):
                print(f"the earlier run is kept in {move_aside(folder)}")
            (folder / "filters").mkdir(parents=True, exist_ok=True)
            lock(folder)
            write_json(folder / "config.json", options)
        except OSError as error:
            raise cannot_write(folder, error) from error
        run = cls(folder, options, resume)
        run.results = read_json(folder / "results.json") if resume else {}
        epochs = options.get("epochs", 0)
        if run.results.get("status") == "finished" and run.results["epochs"] >= epochs:
            run.is_finished = True
            print(f"{folder} is finished: {run.results['epochs']} epochs; nothing to resume")
        else:
            run.write_results(status="running", **facts)
            hint_at_other_programs(options.get("threads", 1))
        return run

    @staticmethod
    def _check_facts(folder, facts):
        before = read_json(folder / "results.json")
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
            self._restore(checkpoints.Arrays, params.arrays, params.load)
            return

        def load(saved):
            theirs = {name: array.shape for name, array in saved.items()}
            ours = {name: array.shape for name, array in params.items()}
            if theirs != ours:
                raise RunError(f"expected {ours}, got {theirs}")
            for name, array in params.items():
                array[...] = saved[name]

        self._restore(checkpoints.Arrays, lambda: params, load)

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

        self._restore(checkpoints.Tensors, state, load)

    def _restore(self, file_format, state, load):
        self._format, self._state = file_format, state
        problems = []
        for path in self._checkpoint_paths() if self._resuming else ():
            if not path.exists():
                continue
            try:
                saved, notes = file_format.read(path)
                position = Position(**notes["position"])
            except checkpoints.DAMAGES as error:
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
        for name, array in checkpoints.leaves(state):
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
        if self._format is checkpoints.Arrays:  # gradients written by hand
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
        if self.agree is None and script.resolve().parent == ROOT:  # not by torchrun, no notebook
            command = shlex.join(["python3", str(script), *self._place])
        raise Interrupted(
            self._signum,
            f"interrupted in epoch {self.position.epoch} after step {self.position.step}; "
            f"{command} --resume goes on from there",
        )
