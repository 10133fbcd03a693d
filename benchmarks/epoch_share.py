"""What share of an epoch is not training: evaluation, pictures, checkpoints, tables.

    python3 benchmarks/epoch_share.py --only stub           # a minute and a half
    python3 benchmarks/epoch_share.py --only train --train-size 10000

An epoch's training is its number of steps times the mean of those beside which nothing was written:
what drawing and writing take from the others counts as not training, and so does all between two
epochs, evaluation above all. Once by the clock, and once in processor time. The stub has the files
of a run of the MNIST net and steps of ten milliseconds in which nothing is computed, as where a GPU
does it: half as long as the large network's on an H200 (strong/README.md). The first epoch, in
which libraries are imported, is left out.
"""

import argparse
import contextlib
import io
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import side_by_side
from side_by_side import np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from support import data, tables
from support.run import Run

STEP_SECONDS, NUM_STEPS, STUB_EPOCHS = 1e-2, 50, 180
# as many epochs as show how often curves are drawn
SCRIPTS = {
    "train": ("train", ["--epochs", "8"]),
    "cifar": ("pytorch_cifar", ["--epochs", "5"]),
    "strong": ("pytorch_cifar", ["--model", "strong", "--epochs", "3"]),
}


def now():
    """Seconds, by the clock and of this process."""
    return np.array([time.perf_counter(), time.process_time()])


class Clock:
    """Notes how long epochs and their steps take, of all runs meanwhile."""

    def __init__(self):
        self.epochs, self.num_steps = [], []  # differences of now(), and counts
        self.steps = []  # differences of now(), where nothing was written beside a step
        self.evaluations = []  # differences of now()

    @contextlib.contextmanager
    def watching(self):
        batches, end_epoch = Run.batches, Run.end_epoch

        def timed_batches(run, *args, **kwargs):
            self.epochs.append(-now())
            self.num_steps.append(0)
            for batch in batches(run, *args, **kwargs):
                is_alone, begun = not run.writer.is_busy, now()
                yield batch
                self.num_steps[-1] += 1
                if is_alone and len(self.epochs) > 1:
                    self.steps.append(now() - begun)

        def timed_end(run, validate, *then):
            def timed_validate():
                begun = now()
                result = validate()
                self.evaluations.append(now() - begun)
                return result

            end_epoch(run, timed_validate, *then)
            self.epochs[-1] += now()

        Run.batches, Run.end_epoch = timed_batches, timed_end
        try:
            yield
        finally:
            Run.batches, Run.end_epoch = batches, end_epoch

    def row(self, name, seconds):
        """What the table says; seconds: of the whole command."""
        epochs, step = self.epochs[1:], np.mean(self.steps, axis=0)
        training = sum(self.num_steps[1:]) * step
        by_clock, of_process = 1 - training / sum(epochs)
        evaluating = sum(self.evaluations[1:]) / sum(epochs)
        return {
            "name": name,
            "epochs": len(epochs),
            "ms a step": 1e3 * step[0],
            "seconds an epoch": np.mean(epochs, axis=0)[0],
            "evaluating": evaluating[0],
            "not training": by_clock,
            "not training, processor time": of_process,
            "seconds in all": seconds,
        }


def stub(save_dir):
    """A run with nothing to compute."""
    rng = np.random.default_rng(0)
    images = rng.random((1000, 1, 28, 28), np.float32)
    labels = np.arange(1000) % 10
    names = [str(digit) for digit in range(10)]
    parts = [images, labels] * 3
    mnist = data.Dataset("mnist", "generated", names, *parts, np.float32(0.5), np.float32(1))
    shapes = {"conv1": (16, 25), "conv2": (32, 400), "fc3": (512, 1568), "logits": (10, 512)}
    params = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    with Run.start(Path(save_dir) / "stub", {"epochs": STUB_EPOCHS}) as run:
        run.show(mnist, lambda: params["conv1"].reshape(16, 1, 5, 5).copy())
        run.restore_arrays(params)
        for epoch in run.epochs(STUB_EPOCHS):
            for _ in run.batches(10 * NUM_STEPS, 10, seed=0):
                time.sleep(STEP_SECONDS)
                run.count(0.5, 5, 0.1)
            run.end_epoch(lambda: (0.5, 0.5))
            if epoch == 1:
                run.writer.wait()  # for imports as long as some of these epochs
        run.finish()


def measure(name, options):
    """Run the stub or a script, which says what it says; the row of the table."""
    clock, begun = Clock(), time.perf_counter()
    said = contextlib.redirect_stdout(io.StringIO())
    with tempfile.TemporaryDirectory() as save_dir, clock.watching(), said:
        if name == "stub":
            stub(save_dir)
        else:
            script, more = SCRIPTS[name]
            import_module(script).main([*more, *options, "--save-dir", save_dir])
    return clock.row(name, time.perf_counter() - begun)


def main(argv=None):
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    names = ["stub", *SCRIPTS]
    parser.add_argument("--only", nargs="*", choices=names, default=names, help="[all]")
    only, options = parser.parse_known_args(argv)  # the others are those of the scripts
    print(side_by_side.machine("numpy", "matplotlib"))
    rows = [measure(name, options) for name in only.only]
    columns = [("what", "<"), ("epochs", "d"), ("ms a step", ".2f"), ("s an epoch", ".2f")]
    columns += [("evaluating", ".1%"), ("not training", ".1%"), ("processor time", ".1%")]
    columns += [("s in all", ".1f")]
    print(tables.text_table(columns, [list(row.values()) for row in rows]))
    side_by_side.write("epoch_share", rows)


if __name__ == "__main__":
    main()
