"""What a run leaves for the eye: filters and curves while it trains, mistakes after the test."""

import math
import time
from contextlib import suppress
from functools import partial

from support import metrics, plots, tables
from support.files import read_json_if_there

FILTER_STEPS = 200  # between two pictures of the filters
# between two pictures at least: drawing, which takes the processor from training, then takes less
# than a hundredth of the time
FILTER_SECONDS = 1
CURVES_SECONDS = 30
NUM_WORST = 20
NUM_EXAMPLES = 3  # of each cell of the confusion matrix


def run_title(folder, dataset):
    """The run, its data and, where it has one, its λ, for the head of its pictures."""
    config, name = read_json_if_there(folder / "config.json"), folder.name
    with suppress(KeyError, ValueError):
        name = folder.relative_to(config["save_dir"]).as_posix()
    weight_decay = config.get("weight_decay")
    known = f", λ = {weight_decay:g}" if weight_decay is not None else ""
    return f"{name}, {dataset.title}{known}"


class Gallery:
    """The pictures and tables of one run, in its folder. While it trains, its writer draws them.

    run: the Run; dataset: the data.Dataset; first_filters: a function that returns a copy of
    the first layer's filters, (F, C, k, k).
    """

    def __init__(self, run, dataset, first_filters):
        self.run, self.dataset, self.first_filters = run, dataset, first_filters
        self.before = first_filters()
        self._filters_begun = self._curves_begun = -math.inf  # when, the last ones
        self._num_drawn = 0  # epochs in the last ones
        self._title = run_title(run.folder, dataset)
        self._words = self._title, dataset.note
        if not run.is_finished:
            self._begin_filters(0, 0, self.before)

    def after_step(self, epoch, step, num_steps):
        """Draw the filters after the last step of an epoch, and within it from time to time: not
        twice in a moment, nor where the writer is behind.
        """
        now = time.monotonic()
        is_due = step % FILTER_STEPS == 0 and now - self._filters_begun >= FILTER_SECONDS
        if step == num_steps or (is_due and not self.run.writer.is_busy):
            self._filters_begun = now
            self._begin_filters(epoch, step, self.first_filters())

    def _begin_filters(self, epoch, step, filters):
        folder = self.run.folder / "filters"
        self.run.writer.do(partial(plots.draw_conv_filters, epoch, step, filters, folder))

    def after_epoch(self, history, is_last):
        """Draw the curves, unless that was done a moment ago, or is done soon, after the test."""
        now = time.monotonic()
        if not is_last and now - self._curves_begun >= CURVES_SECONDS:
            self._curves_begun = now
            self._draw_curves(history)

    def at_end(self):
        """Draw the curves, unless they have all epochs: the run has ended before a test."""
        if len(self.run.history) > self._num_drawn and not self.run.is_finished:
            self._draw_curves(self.run.history)

    def _draw_curves(self, history, test_acc=None):
        curves = {key: [row[key] for row in history] for key in history[-1]}
        title = self._title + (f", test {test_acc:.2%}" if test_acc is not None else "")
        words = self.dataset.note, self.dataset.class_names, title, self.run.position.has_means
        plots.plot_training_progress(self.run.folder, curves, *words)
        self._num_drawn = len(history)

    def after_training(self, logits, test_loss, losses=None, worst=None):
        """Draw and print what the test shows; returns what results.json says of it.

        logits: (N, K), the outputs for the test images; test_loss: their mean loss; losses: the
        loss of each of them, cross-entropy if not given; worst: indices of the worst mistakes.
        """
        names = self.dataset.class_names
        confusion = metrics.confusion_matrix(self.dataset.test_y, logits.argmax(axis=1), len(names))
        self._draw_curves(self.run.history, metrics.accuracy(confusion))
        path = self.run.folder / "filters_before_after.png"
        plots.draw_filters_before_after(path, self.before, self.first_filters(), *self._words)
        print(f"test: loss {test_loss:.4f}, accuracy {metrics.accuracy(confusion):.2%}")
        print(metrics.confusion_table(confusion, names))
        print(metrics.per_class_table(confusion, names))
        self._write_confusion(confusion)
        self._write_worst(
            metrics.worst_mistakes(logits, self.dataset.test_y, names, NUM_WORST, losses, worst)
        )
        self._draw_examples(metrics.cell_examples(logits, self.dataset.test_y, NUM_EXAMPLES))
        return {
            "test_loss": test_loss,
            "test_acc": metrics.accuracy(confusion),
            "precision": dict(zip(names, metrics.precision(confusion).tolist(), strict=True)),
            "recall": dict(zip(names, metrics.recall(confusion).tolist(), strict=True)),
        }

    def _write_confusion(self, confusion):
        """The confusion matrix as a table and as a picture."""
        folder, names = self.run.folder, self.dataset.class_names
        rows = [
            {"true": name, **dict(zip(names, counts, strict=True))}
            for name, counts in zip(names, confusion.tolist(), strict=True)
        ]
        tables.write_table(folder / "confusion_matrix.csv", ["true", *names], rows)
        path = folder / "confusion_matrix.png"
        plots.draw_confusion_matrix(path, confusion, names, *self._words)

    def _write_worst(self, worst):
        """The worst mistakes as a table, as a picture, and their images alone for the page."""
        folder, dataset = self.run.folder, self.dataset
        tables.write_table(folder / "worst_20.csv", metrics.MISTAKE_COLUMNS, worst)
        images = dataset.pixels(dataset.test_x[[mistake["index"] for mistake in worst]])
        if worst:
            plots.draw_tiles(folder / "page" / "worst_20_images.png", images[None])
        captions = [f"image {m['index']}\n{metrics.mistake_caption(m)}" for m in worst]
        title = f"The worst of the test's mistakes: {self._title}"
        plots.draw_mistakes(folder / "worst_20.png", images, captions, title, dataset.note)

    def _draw_examples(self, examples):
        """Images of each cell of the confusion matrix, for the page; black where there are no more.

        Shape: examples (K, K, NUM_EXAMPLES) of indices, -1 for none.
        """
        tiles = self.dataset.pixels(self.dataset.test_x[examples.ravel()])
        tiles[examples.ravel() < 0] = 0
        rows, columns, each = examples.shape
        tiles = tiles.reshape(rows, columns * each, *tiles.shape[1:])
        plots.draw_tiles(self.run.folder / "page" / "confusion_examples.png", tiles)
