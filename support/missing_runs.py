"""Run the scripts of the lab that have not come to their end in a save folder."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from support.page.formats import duration
from support.read_runs import Record

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = {  # in the order of the lab: what their folder must hold when they have been run
    "check_grads": "gradients.csv",
    "train": "results.json",
    "train_l2reg": "comparison.csv",
    "pytorch_mnist": "results.json",
    "pytorch_cifar": "results.json",
    "hinge_bonus": "comparison.csv",
}
DIGITS = ["--dataset", "synthetic", "--train-size", "2000", "--epochs", "3", "--batch-size", "20"]
SHAPES = ["--dataset", "synthetic", "--train-size", "4000", "--epochs", "4", "--batch-size", "16"]
SHAPES += ["--no-views"]
DEMO_OPTIONS = {
    "train": DIGITS,
    "train_l2reg": DIGITS,
    "pytorch_mnist": DIGITS,
    "pytorch_cifar": SHAPES,
    "hinge_bonus": [*SHAPES, "--seeds", "1"],
}


def run_missing(save_dir, options):
    """Run the missing scripts one after the other; returns how many failed.

    A hand-out has not all of them. options: {script: a list of command-line options}.
    """
    failed = 0
    scripts = {name: mark for name, mark in SCRIPTS.items() if (ROOT / f"{name}.py").exists()}
    for place, (script, mark) in enumerate(scripts.items(), start=1):
        title = f"{place}/{len(scripts)} {script}.py"
        if is_done(save_dir / script, mark):
            print(f"{title}: is there", flush=True)
            continue
        command = [sys.executable, ROOT / f"{script}.py", "--save-dir", save_dir]
        command += options.get(script, [])
        command += ["--resume"] if script != "check_grads" else []
        print(f"{title}: runs ...", end="", flush=True)
        begun = time.monotonic()
        status, last = call(command, title)
        verdict = "done in" if status == 0 else "failed after"
        took = duration(time.monotonic() - begun)
        # \r and the code that clears a line: on a terminal this takes the place of the last line
        start = "\r\x1b[K" if sys.stdout.isatty() else "\n"
        print(f"{start}{title}: {verdict} {took}" + (f": {last}" if status else ""), flush=True)
        failed += status != 0
    return failed


def is_done(folder, mark):
    if mark != "results.json":
        return (folder / mark).exists()
    return Record(folder).results.get("status") in ("finished", "diverged")


def call(command, title):
    """Run a command and show its last line, on a terminal; returns its status and that line."""
    last = "no message"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        try:
            for line in process.stdout:
                last = line.strip() or last
                if sys.stdout.isatty():
                    width = shutil.get_terminal_size().columns - 1
                    print("\r\x1b[K" + f"{title}: {last}"[:width], end="", flush=True)
        except KeyboardInterrupt:
            process.communicate()  # the script has got the signal, too, and saves what it has
            raise
    return process.returncode, last
