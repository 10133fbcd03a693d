"""A run: what a training loop needs from the machinery, in few calls.

    with Run.start(folder, options, resume, **facts) as run:
        run.show(dataset, first_filters)                 # pictures, while it trains and at the end
        run.restore_torch(model=model, optimizer=optimizer)    # where --resume goes on
        for epoch in run.epochs(config.epochs):
            for batch in run.batches(len(images), config.batch_size, config.seed):
                ...                                      # outputs and loss of images[batch.indices]
                run.count(loss, num_correct, lr)
                ...                                      # update
            run.end_epoch(validate)
        run.finish(test)

The run draws the batches, shows the progress, keeps the history, saves checkpoints, reacts to
signals, and records how it ends. What an epoch leaves is drawn and written while the next trains;
what goes wrong then ends the run after the step in hand.
"""

import math
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from support import folders, progress
from support.batches import Batch, shuffled
from support.checkpoints import Checkpoints, Position
from support.errors import Diverged, Interrupted, RunError
from support.facts import hint_at_other_programs
from support.files import write_json
from support.gallery import Gallery
from support.locks import unlock
from support.signals import Leave, Signals
from support.start import ROOT
from support.tables import write_table
from support.tensorboard import Log
from support.writer import Writer

import numpy as np

HISTORY_COLUMNS = ["epoch", "lr", "train_loss", "train_acc", "valid_loss", "valid_acc", "seconds"]


class Run:
    """One training run and its folder. Made by Run.start; used as above.

    history: one dict an epoch, with the keys HISTORY_COLUMNS at least. results: what results.json
    holds. position: see Position. is_finished: whether it is resumed and had come to its end.
    rank: which of several processes that train together this is. has_bar: whether a terminal shows
    a bar. signals: see Signals; writer: see Writer.
    """

    def __init__(self, folder, options, facts, earlier_results):
        self.folder, self.position = folder, Position()
        self.history, self.results = [], earlier_results or {}
        self.is_finished = False
        self.rank, self.has_bar = 0, sys.stderr.isatty()
        self.signals, self.writer = Signals(self._stop), Writer()
        self._options, self._facts = options, facts
        self._is_resumed = earlier_results is not None
        self._checkpoint_seconds = 60 * options.get("checkpoint_minutes", 5)
        self._checkpoints = Checkpoints(folder)
        self._gallery, self._log, self._columns = None, None, {}
        self._max_epochs = self._batch_size = 0

    @classmethod
    def start(cls, folder, options=None, resume=False, fixed=(), **facts):
        """Begin a run in folder, or go on with the one that is there.

        options: the run's options by name, written to config.json; on resume those that matter must
        be as they were: all but FREE_OPTIONS, and the fixed ones of these. facts: what results.json
        says from the start, such as the dataset.
        A folder that holds an earlier run is moved aside, to folder.1 and so on. Where there is
        nothing to resume, the run begins.
        Raises: RunError if the folder cannot be written or is in use, or if the options do not fit.
        """
        folder, options = Path(folder), options or {}
        run = cls(folder, options, facts, folders.begin(folder, options, resume, fixed, facts))
        if folders.is_finished(run.results, options):
            run.is_finished = True
            print(f"{folder} is finished: {run.results['epochs']} epochs; nothing to resume")
            return run
        if not run._is_resumed:
            run.write_results(status="running", **facts)
        hint_at_other_programs(options.get("threads", 1))
        return run

    # --- before training ---

    def show(self, dataset, first_filters, tensorboard=False):
        """Draw pictures of the training and of the test on a data.Dataset; see Gallery.

        first_filters(): a copy of the first layer's filters, (F, C, k, k), which are not trained
        yet. tensorboard: whether to log for TensorBoard, too.
        """
        self._gallery = Gallery(self, dataset, first_filters)
        if tensorboard:
            self._log = Log(self.folder / "tensorboard", first_filters)

    def add_column(self, name, value):
        """Keep value(row) in the history after each epoch; row: the columns that are known."""
        self._columns[name] = value

    def restore_arrays(self, params):
        """Save params, a dict of NumPy arrays, in checkpoints; set them in place from the last one.

        Or an object with arrays(), which returns the dict, and load(dict).
        Raises: RunError if the run cannot go on from what is there.
        """
        self._checkpoints.hold_arrays(params)
        self._restore()

    def restore_torch(self, **parts):
        """The same for objects with state_dict and load_state_dict: models, optimizers ..."""
        self._checkpoints.hold_torch(parts)
        self._restore()

    def _restore(self):
        """Go on where a resumed run was, and only then write that it goes on, and how."""
        if not self._is_resumed:
            return
        if restored := self._checkpoints.restore():
            self.position, self.history = restored
        if self.is_finished:
            return
        at, epochs = self.position, self._options.get("epochs", math.inf)
        if at.num_begun > epochs:
            raise RunError(
                f"cannot resume {self.folder} with --epochs {epochs}: it is in epoch {at.epoch}"
            )
        write_json(self.folder / "config.json", self._options)
        self.results = {}  # what a test said is of fewer epochs
        self.write_results(status="running", **self._facts)
        print(f"resuming {self.folder} in epoch {at.epoch} after step {at.step}")
        if self.history:
            write_table(self.folder / "history.csv", HISTORY_COLUMNS, self.history)

    # --- training ---

    def epochs(self, max_epochs):
        """The epochs to come, counted from 1; each has to end with end_epoch."""
        if self._checkpoints.format is None:
            raise RuntimeError("expected restore_arrays or restore_torch before the first epoch")
        self._max_epochs = max_epochs
        self._last_save = time.monotonic()
        while self.position.epoch <= max_epochs:
            epoch = self.position.epoch
            yield epoch
            if self.position.epoch == epoch:
                raise RuntimeError(f"expected end_epoch at the end of epoch {epoch}")

    def batches(self, images, batch_size, seed):
        """The steps to come of this epoch, each a Batch.

        images: how many there are, or the indices of those to draw from. The order depends on the
        seed and the epoch alone. After each step there may be a checkpoint; after a signal there is
        one, and Interrupted.
        """
        at = self.position
        order = shuffled(images, seed, at.epoch)
        num_steps = -(-len(order) // batch_size)
        title = f"epoch {at.epoch}/{self._max_epochs}"
        started = time.perf_counter() - at.seconds
        for i in progress.shown(at, num_steps, title, self.has_bar):
            step, num_seen = i + 1, at.num_seen
            indices = order[i * batch_size : step * batch_size]
            self._batch_size = len(indices)
            done = ((at.epoch - 1) * num_steps + step - 0.5) / (self._max_epochs * num_steps)
            yield Batch(indices, step, done, (seed, at.epoch, step, self.rank))
            if at.num_seen == num_seen:
                raise RuntimeError(f"expected count in step {step}")
            if self._gallery is not None:
                self._gallery.after_step(at.epoch, step, num_steps)
            at.step, at.seconds = step, time.perf_counter() - started
            self.signals.obey()
            self.writer.obey()
            if time.monotonic() - self._last_save >= self._checkpoint_seconds:
                self._hand_over(self._checkpoints.save)
        print(f"{title}: {at}", flush=True)

    def count(self, loss, num_correct, lr):
        """Add the mean loss and the right answers of the batch in hand to those of the epoch; lr is
        for the history.

        Raises: Diverged unless the loss is finite. So it belongs before the update.
        """
        at, loss, num_images = self.position, float(loss), self._batch_size
        if not math.isfinite(loss):
            last = "none" if at.last_loss is None else f"{at.last_loss:.4g}"
            said = f"; the last finite loss was {last}"
            raise self._checkpoints.diverged(f"the loss is {loss}", at, at.step + 1, lr, said)
        at.add(loss, num_images, int(num_correct), lr)

    def end_epoch(self, validate, then=None):
        """Evaluate, add a row to the history, and have curves and next epoch's start written.

        validate(): (loss, accuracy) of the validation images, or a dict of columns with valid_loss
        and valid_acc at least; an array in it is shown, and not kept. A signal may end it anywhere:
        it changes nothing that a checkpoint holds. then(): what does, after it.
        """
        at = self.position
        with self.signals.anywhere():
            result = validate()
            if not isinstance(result, dict):
                result = dict(zip(("valid_loss", "valid_acc"), result, strict=True))
            values = at.epoch, at.lr, at.mean_loss, at.accuracy, None, None, at.seconds
            row = dict(zip(HISTORY_COLUMNS, values, strict=True)) | result
            for name, value in self._columns.items():
                row[name] = value(row)
            kept = {key: value for key, value in row.items() if not isinstance(value, np.ndarray)}
            if self._log is not None:
                self._log.after_epoch(row)
        if then is not None:
            then()
        self.history.append(kept)
        self.position = at.next_epoch(has_means="train_loss" not in result)
        self._hand_over(self._write_epoch)
        self.signals.obey()

    # --- how it ends ---

    def finish(self, test=None):
        """Test once, draw what the test shows, and mark the run as finished; nothing if it is.

        test(): the outputs (N, K) for the test images and their mean loss; where known, the loss of
        each, and the indices of the worst mistakes. A signal may end it anywhere.
        """
        if self.is_finished:
            return
        self.writer.wait()  # the last epoch's, and before pictures are drawn here
        with self.signals.anywhere():
            tested = None if test is None else test()
            results = self._gallery.after_training(*tested) if tested and self._gallery else {}
        seconds = sum(row["seconds"] for row in self.history)
        self.write_results(status="finished", epochs=len(self.history), seconds=seconds, **results)
        self._checkpoints.forget_previous()

    def write_results(self, **values):
        """Add values to results.json."""
        self.results.update(values)
        write_json(self.folder / "results.json", self.results)

    def save_checkpoint(self):
        """Save a checkpoint at once. Raises: Diverged, and writes nothing, if it is not finite."""
        self._hand_over(self._checkpoints.save)
        self.writer.wait()

    def _hand_over(self, write):
        """Have write(snapshot of what a checkpoint holds) done by the writer."""
        self.writer.wait()  # before there are two copies
        snapshot = self._checkpoints.snapshot(self.position, self.history)
        self.writer.do(partial(write, snapshot))
        self._last_save = time.monotonic()

    def _write_epoch(self, snapshot):
        """What an epoch leaves."""
        if self._gallery is not None:
            self._gallery.after_epoch(snapshot.history, snapshot.position.epoch > self._max_epochs)
        self._checkpoints.save(snapshot)
        write_table(self.folder / "history.csv", HISTORY_COLUMNS, snapshot.history)

    def __enter__(self):
        self.signals.catch()
        return self

    def __exit__(self, _kind, error, _trace):
        end = error
        try:
            if isinstance(error, Leave):
                self.signals.obey()
        except BaseException as another:
            end = another
        try:
            self.writer.close()
            if self._gallery is not None and isinstance(end, Interrupted | Diverged | None):
                self._gallery.at_end()
        except BaseException as another:
            end = end or another
        was_running = self.results.get("status") == "running"  # a finished one stays finished
        if was_running and isinstance(end, Exception | KeyboardInterrupt):
            with suppress(OSError):
                is_diverged = isinstance(end, Diverged)
                self.write_results(status="diverged" if is_diverged else "interrupted")
        if self._log is not None:
            self._log.close()
        self._gallery = None  # whoever keeps the run need not keep its images
        if not self.writer.is_busy:  # else the lock ends with the process, after the last file
            unlock(self.folder)
        late = self.signals.release(f"{self.folder} is {self.results.get('status')}")
        if (end := end or late) is not error:
            raise end

    def _stop(self, signum):
        """Save and raise Interrupted."""
        self.save_checkpoint()
        save_dir = self._options.get("save_dir", str(ROOT / "out"))
        command = folders.command(save_dir, self.signals.agree is None)
        where = f"epoch {self.position.epoch} after step {self.position.step}"
        raise Interrupted(signum, f"interrupted in {where}; {command} --resume goes on from there")
