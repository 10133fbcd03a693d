"""Run the scripts of the lab that have not come to their end in a save folder."""

import shutil
import subprocess
import sys
import time

from support.page.formats import duration
from support.read_runs import Record
from support.start import ROOT
from support.time_left import TimeLeft, about

LOG_SECONDS = 60  # between two lines of one script, where they are not rewritten
MACHINE = "two cores of an AMD EPYC"  # that the times below are those of
SCRIPTS = {  # in the order of the lab: what their folder must hold when they have been run
    "check_grads": "gradients.csv",
    "train": "results.json",
    "train_l2reg": "comparison.csv",
    "pytorch_mnist": "results.json",
    "pytorch_cifar": "results.json",
    "hinge_bonus": "comparison.csv",
}
EXPECTED = {  # how many runs, and about how many seconds
    "check_grads": (1, 3),
    "train": (1, 65),
    "train_l2reg": (3, 240),
    "pytorch_mnist": (1, 140),
    "pytorch_cifar": (1, 210),
    "hinge_bonus": (6, 1260),
}
DIGITS = ["--dataset", "synthetic", "--train-size", "2000", "--epochs", "3", "--batch-size", "20"]
SHAPES = ["--dataset", "synthetic", "--train-size", "4000", "--epochs", "4", "--batch-size", "16"]
SHAPES += ["--no-views"]
DEMO_OPTIONS = {
    "train": DIGITS,
    "train_l2reg": DIGITS,
    "pytorch_mnist": DIGITS,
    "pytorch_cifar": SHAPES,
    # the defaults are for larger batches; of rates halved and doubled, these did best on the
    # validation images: with the hinge loss 57 %, where 0.008 has 41 %
    "hinge_bonus": [*SHAPES, "--seeds", "1", "--lr", "0.01", "--hinge-lr", "0.002"],
}
DEMO_EXPECTED = {
    "check_grads": (1, 3),
    "train": (1, 12),
    "train_l2reg": (3, 30),
    "pytorch_mnist": (1, 8),
    "pytorch_cifar": (1, 24),
    "hinge_bonus": (2, 38),
}


def run_missing(save_dir, options, expected=EXPECTED):
    """Run the missing scripts one after the other; returns how many failed.

    A hand-out has not all of them. options: {script: a list of command-line options}; expected:
    {script: (runs, seconds)} with these.
    """
    failed = 0
    scripts = {name: mark for name, mark in SCRIPTS.items() if (ROOT / f"{name}.py").exists()}
    missing = [name for name, mark in scripts.items() if not is_done(save_dir / name, mark)]
    left = TimeLeft({name: expected[name] for name in missing})
    if missing:
        print(
            f"without downloads {about(left.seconds)} on {MACHINE}, elsewhere half or several "
            "times that; the time left soon goes by this machine's own speed",
            flush=True,
        )
    for place, script in enumerate(scripts, start=1):
        title = f"{place}/{len(scripts)} {script}.py"
        if script not in missing:
            print(f"{title}: is there", flush=True)
            continue
        command = [sys.executable, ROOT / f"{script}.py", "--save-dir", save_dir]
        command += options.get(script, [])
        command += ["--resume"] if script != "check_grads" else []
        left.begin(script)
        line = Line(title, left)
        begun = time.monotonic()
        status, last = call(command, line.heed)
        left.end()
        verdict = "done in" if status == 0 else "failed after"
        took = duration(time.monotonic() - begun)
        line.end(f"{verdict} {took}" + (f": {last}" if status else ""))
        failed += status != 0
    return failed


class Line:
    """The line that says how far a script has come: rewritten on a terminal, elsewhere a new one
    each LOG_SECONDS at most."""

    def __init__(self, title, left):
        self.title, self.left = title, left
        self.is_rewritten, self.last = sys.stdout.isatty(), time.monotonic()
        self.write(f"runs, {about(left.seconds)} left in all")

    def heed(self, text):
        """Show what a line that the script prints says of that."""
        is_due = self.is_rewritten or time.monotonic() - self.last >= LOG_SECONDS
        if self.left.read(text) and is_due:
            self.last = time.monotonic()
            self.write(self.left)
        elif self.is_rewritten and not self.left.epoch:  # a download, for example
            self.write(text)

    def write(self, text):
        text = f"{self.title}: {text}"
        if self.is_rewritten:
            # \r and the code that clears a line
            text = "\r\x1b[K" + text[: shutil.get_terminal_size().columns - 1]
        print(text, end="" if self.is_rewritten else "\n", flush=True)

    def end(self, text):
        print("\r\x1b[K" * self.is_rewritten + f"{self.title}: {text}", flush=True)


def is_done(folder, mark):
    if mark != "results.json":
        return (folder / mark).exists()
    return Record(folder).results.get("status") in ("finished", "diverged")


def call(command, heed):
    """Run a command, and heed(each line it prints); returns its status and its last line."""
    last = "no message"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        try:
            for line in process.stdout:
                last = line.strip() or last
                heed(last)
        except KeyboardInterrupt:
            process.communicate()  # the script has got the signal, too, and saves what it has
            raise
    return process.returncode, last
