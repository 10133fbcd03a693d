"""The lab report: one page, out/report.html, that shows everything that was run.

    python3 report.py                  # from the runs that are there
    python3 report.py --watch          # and again after each epoch while something trains
    python3 report.py --run-missing    # first run the scripts that have not been run, with defaults
    python3 report.py --demo           # the same on small generated data, into out/demo/

The page needs no network and no server. What is missing, interrupted or damaged is said in its
place, and how to run it.
"""

import base64
import contextlib
import csv
import json
import math
import secrets
import shutil
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import support  # says in one line what is missing
from support.errors import one_line_errors
from support.facts import differences
from support.files import write_whole
from support.locks import is_in_use
from support.options import folder_option, option, parse
from support.run import HISTORY_COLUMNS
from support.start import ROOT

import jinja2
import numpy as np

import metrics
import plots

STATES = ("running", "interrupted", "diverged", "finished")  # that results.json may hold
MAX_FRAMES = 60  # pictures of the filters in one slider, evenly chosen
MAX_NUMBER = 1e15  # in a table; what is larger is damage
NUM_CONFUSED = 3  # pairs of classes that the text names
WATCH_SECONDS = 1  # between two looks at the run folders
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


@dataclass(kw_only=True)
class Config:
    save_dir: str = folder_option("SAVE_DIR", "out", "folder of the runs")
    watch: bool = option(False, "rewrite the page whenever a run gets on, until Ctrl-C")
    run_missing: bool = option(False, "run what has not been run, with its defaults")
    demo: bool = option(
        False, "run everything on small generated data, into demo/ in the save folder"
    )


# --- reading what the runs left -----------------------------------------------------------------


@dataclass
class Record:
    """What a run's folder holds, as far as it can be read; problems: a sentence for what cannot.

    results, config: dicts; history: {column: list of numbers}; the rest is read on demand.
    """

    folder: Path
    problems: list = field(default_factory=list)
    results: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    history: dict = field(default_factory=dict)

    @classmethod
    def read(cls, folder):
        record = cls(folder)
        if record.exists:
            record.results = record.json("results.json")
            record.config = record.json("config.json")
            record.history = record.numbers("history.csv", HISTORY_COLUMNS)
        return record

    @property
    def exists(self):
        return self.folder.is_dir()

    @property
    def state(self):
        """missing | damaged | running | killed | interrupted | diverged | finished."""
        if not self.exists:
            return "missing"
        state = self.results.get("status")
        if state == "running" and not is_in_use(self.folder):
            return "killed"
        return state if state in STATES else "damaged"

    @property
    def num_epochs(self):
        return len(self.history.get("epoch", ()))

    @property
    def test_acc(self):
        return as_number(self.results.get("test_acc"))

    @property
    def seconds(self):
        """Seconds of training."""
        return sum(self.history.get("seconds", ()))

    @property
    def milliseconds_a_step(self):
        images = as_number(self.results.get("num_train"))
        batch_size = as_number(self.config.get("batch_size"))
        if not images or not batch_size or not self.num_epochs:
            return None
        return 1000 * self.seconds / (self.num_epochs * math.ceil(images / batch_size))

    def json(self, name):
        """The object in a JSON file; empty where there is none."""
        values = self._read(name, lambda path: json.loads(path.read_text(encoding="utf-8")), {})
        if isinstance(values, dict):
            return values
        self.damaged(name, "it holds no object")
        return {}

    def rows(self, name, required=()):
        """The rows of a CSV file as dicts of texts; none if a column in `required` is missing."""

        def read(path):
            with path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file, strict=True)
                columns = reader.fieldnames or ()
                rows = list(reader)
            if not set(required) <= set(columns):
                raise ValueError(f"expected the columns {', '.join(required)}")
            if any(None in row or None in row.values() for row in rows):
                raise ValueError("a row is longer or shorter than the first")
            return rows

        return self._read(name, read, [])

    def numbers(self, name, required):
        """The columns of a CSV file as lists of numbers; empty if something in it is not one."""
        rows = self.rows(name, required)
        try:
            columns = {key: [float(row[key]) for row in rows] for key in required if rows}
        except ValueError as error:
            return self.damaged(name, error) or {}
        if not all(abs(value) < MAX_NUMBER for values in columns.values() for value in values):
            return self.damaged(name, "a number in it is out of all bounds") or {}
        return columns

    def image(self, name):
        """A picture: its data: address, width and height in pixels; None where no whole one is."""
        content = self._read(name, lambda path: _whole_png(path.read_bytes()), None)
        if content is None:
            return None
        width, height = (int.from_bytes(content[start : start + 4]) for start in (16, 20))
        address = "data:image/png;base64," + base64.b64encode(content).decode()
        return {"address": address, "width": width, "height": height}

    def frames(self):
        """The pictures of the filters through time: images with a label."""
        paths = sorted(self.folder.glob("filters/epoch_*_step_*.png"))
        if len(paths) > MAX_FRAMES:
            last = len(paths) - 1
            paths = [paths[round(i * last / (MAX_FRAMES - 1))] for i in range(MAX_FRAMES)]
        frames = []
        for path in paths:
            _, epoch, _, step = path.stem.split("_")[:4]
            image = self.image(f"filters/{path.name}")
            if image and epoch.isdecimal() and step.isdecimal():
                label = f"epoch {int(epoch)}, step {int(step)}"
                frames.append({**image, "label": label if int(epoch) else "before training"})
        return frames

    def _read(self, name, read, default):
        try:
            return read(self.folder / name)
        except FileNotFoundError:
            return default
        except (OSError, ValueError, csv.Error, RecursionError) as error:
            self.damaged(name, error)
            return default

    def damaged(self, name, error):
        reason = " ".join(str(error).split())
        self.problems.append(f"{self.folder.name}/{name} cannot be read: {reason}"[:300])


def _whole_png(content):
    """content, if it is a PNG file from its signature to its end with all checksums right."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("it is no PNG file")
    position = 8
    while content[position + 4 : position + 8] != b"IEND":
        length = int.from_bytes(content[position : position + 4])
        body, end = content[position + 4 : position + 8 + length], position + 12 + length
        if end > len(content) or zlib.crc32(body) != int.from_bytes(content[end - 4 : end]):
            raise ValueError("the picture is damaged")
        position = end
    return content


def as_number(value):
    """value, or the number that a text says, if it is finite; else None."""
    with contextlib.suppress(ValueError, TypeError, OverflowError, jinja2.UndefinedError):
        if isinstance(value, str):
            value = int(value) if value.isdecimal() else float(value)
        if not isinstance(value, bool) and math.isfinite(value):
            return value
    return None


# --- the sections, in the order of the lab ------------------------------------------------------


def task_1(save_dir):
    """The gradient check, the network's table, and the run of train.py."""
    checks, run = Record(save_dir / "check_grads"), Record.read(save_dir / "train")
    network = run.rows("network.csv", ("name", "output", "num_params", "kept_bytes"))
    gradients = checks.rows("gradients.csv", ("name", "error", "index", "passed"))
    return {
        **facts([run]),
        "gradients": gradients,
        "num_passed": sum(row["passed"] == "True" for row in gradients),
        "largest_error": max((as_number(row["error"]) or 0 for row in gradients), default=0),
        "cost": checks.json("results.json"),
        "network": network,
        "totals": {key: _total(network, key) for key in ("num_params", "kept_bytes")},
        "last_conv": next((row for row in reversed(network) if "conv" in row["name"]), None),
        "charts": progress_charts(run.history),
        "frames": run.frames(),
        "problems": checks.problems + run.problems,
    }


def task_2(save_dir):
    """The runs of train_l2reg.py by λ."""
    by_weight_decay = {}
    for folder in (save_dir / "train_l2reg").glob("lambda_*"):
        with contextlib.suppress(ValueError):
            by_weight_decay[float(folder.name.removeprefix("lambda_"))] = Record.read(folder)
    columns = [
        {
            "name": f"λ = {weight_decay:g}",
            "run": run,
            "frames": run.frames(),
            "losses": run.numbers("losses.csv", ("epoch", "data_loss", "l2_loss")),
        }
        for weight_decay, run in sorted(by_weight_decay.items())
    ]
    names = [column["name"] for column in columns]
    records = [column["run"] for column in columns]
    losses = [column["losses"] for column in columns]
    tested = [column for column in columns if column["run"].test_acc is not None]
    tested.sort(key=lambda column: -column["run"].test_acc)
    return {
        **facts(records),
        "columns": columns,
        "tested": tested,
        "charts": comparison_charts(names, [run.history for run in records], ["valid_acc"])
        + comparison_charts(names, losses, ["data_loss", "l2_loss"]),
    }


def task_3(save_dir):
    """The run of pytorch_mnist.py beside the NumPy run with the same λ."""
    theirs = Record.read(save_dir / "pytorch_mnist")
    weight_decay = as_number(theirs.config.get("weight_decay")) or 0
    name = f"train_l2reg/lambda_{weight_decay:g}" if weight_decay else "train"
    ours = Record.read(save_dir / name)
    pair = (ours, theirs)
    rows = []
    for what, values, digits in (
        ("test accuracy, %", [run.test_acc for run in pair], 2),
        ("validation accuracy, %", [_last(run, "valid_acc") for run in pair], 2),
        ("validation loss", [_last(run, "valid_loss") for run in pair], 5),
        ("training loss, last epoch", [_last(run, "train_loss") for run in pair], 5),
        ("a training step, ms", [run.milliseconds_a_step for run in pair], 2),
    ):
        if None not in values:
            values = [100 * value for value in values] if "%" in what else values
            rows.append({"what": what, "values": values, "digits": digits})
    histories = [run.history for run in pair]
    charts = comparison_charts(["NumPy", "PyTorch"], histories, ["train_loss", "valid_acc"])
    return {
        **facts([theirs]),
        "ours": ours,
        "weight_decay": weight_decay,
        "rows": rows,
        "tested": [run.test_acc for run in pair] if None not in [r.test_acc for r in pair] else [],
        "unlike": differences(*({**run.results, **run.config} for run in pair)),
        "charts": charts + difference_charts(*histories),
        "frames": [run.frames() for run in pair],
    }


def task_4(save_dir):
    """The run of pytorch_cifar.py, and what it gets wrong."""
    run = Record.read(save_dir / "pytorch_cifar")
    parts = {"confusion": confusion(run), "worst": worst(run), "frames": run.frames()}
    return {**facts([run]), "charts": progress_charts(run.history), **parts}


def bonus(save_dir):
    """The runs of hinge_bonus.py: both losses, all seeds."""
    whole = Record(save_dir / "hinge_bonus")
    rows = whole.rows("comparison.csv", ("loss", "lr", "runs", "test_acc_mean", "valid_acc_mean"))
    names, records = [], []
    for loss in ("cross_entropy", "hinge"):
        for folder in sorted(whole.folder.glob(f"{loss}*")):
            names.append(loss.replace("_", "-"))
            records.append(Record.read(folder))
    recalls = []
    for key in rows[0] if len(rows) == 2 else ():
        values = [as_number(row[key]) for row in rows]
        if key.startswith("recall_") and None not in values:
            recalls.append((key.removeprefix("recall_"), [100 * value for value in values]))
    return {
        **facts(records),
        "rows": rows,
        "recalls": recalls,
        "charts": comparison_charts(
            names, [run.history for run in records], ["train_acc", "valid_acc"]
        ),
        "problems": whole.problems + [problem for run in records for problem in run.problems],
    }


# --- their parts --------------------------------------------------------------------------------


def facts(records):
    """What every section says of its runs; a value that several of them share comes once."""
    there = [record for record in records if record.exists]

    def distinct(form):
        return list(dict.fromkeys(form(record.results) for record in there if record.results))

    def versions(results):
        known = results.get("versions")
        known = known if isinstance(known, dict) else {}
        return ", ".join(f"{name} {version}" for name, version in known.items())

    def of(results, *keys):
        return [results.get(key, "unknown") for key in keys]

    return {
        "runs": there,
        "states": list(dict.fromkeys(record.state for record in there)) or ["missing"],
        "official": all(record.results.get("provenance") == "official" for record in there),
        "data": distinct(
            lambda r: "{}, {}, {} training images{}".format(
                *of(r, "dataset", "provenance"),
                number(r.get("num_train")),
                ", those for validation among them" if r.get("trains_with_valid") else "",
            )
        ),
        "seeds": distinct(lambda r: str(r.get("seed"))),
        "machines": distinct(
            lambda r: "{}, device {}, threads: {}".format(*of(r, "processor", "device", "threads"))
        ),
        "software": distinct(versions),
        "commands": distinct(lambda r: str(r.get("command", "unknown"))),
        "num_epochs": sum(record.num_epochs for record in there),
        "seconds": sum(record.seconds for record in there),
        "problems": [problem for record in there for problem in record.problems],
    }


def _total(rows, key):
    values = [as_number(row[key]) for row in rows]
    return None if None in values else sum(values)


def _last(run, key):
    return run.history[key][-1] if run.num_epochs else None


def chart(title, lines, log=None):
    return {"title": title, "svg": plots.chart_svg(title, lines, log) or ""}


TITLES = {
    "train_loss": "Training loss",
    "train_acc": "Training error in %",
    "valid_acc": "Validation error in %",
    "data_loss": "Data loss of the validation images",
    "l2_loss": "Regularization loss",
}


def progress_charts(history):
    """Loss, error and learning rate of one run; none without an epoch."""
    if not history:
        return []
    epochs = history["epoch"]
    parts = {"train": "training", "valid": "validation"}
    return [
        chart("Loss", [(name, epochs, history[f"{part}_loss"]) for part, name in parts.items()]),
        chart(
            "Error in %",
            [(name, epochs, _errors(history[f"{part}_acc"])) for part, name in parts.items()],
        ),
        chart("Learning rate", [("", epochs, history["lr"])], plots.is_staircase(history["lr"])),
    ]


def comparison_charts(names, histories, keys):
    """A chart for each key, with a line for each history; those of one name look alike."""
    charts = []
    for key in keys:
        lines = [
            (name, history["epoch"], _errors(history[key]) if "acc" in key else history[key])
            for name, history in zip(names, histories, strict=True)
            if history
        ]
        if lines:
            charts.append(chart(TITLES[key], lines))
    return charts


def difference_charts(ours, theirs):
    """The difference of two runs in validation accuracy, by epoch."""
    if not ours or not theirs:
        return []
    pairs = zip(theirs["valid_acc"], ours["valid_acc"], strict=False)
    differences = [100 * (b - a) for b, a in pairs]
    line = ("", theirs["epoch"][: len(differences)], differences)
    title = "Validation accuracy, PyTorch − NumPy, in points"
    return [chart(title, [line], log=False)]


def _errors(accuracies):
    return [100 * (1 - accuracy) for accuracy in accuracies]


def confusion(run):
    """The confusion matrix, the metrics of each class and the example images; None without."""
    rows = run.rows("confusion_matrix.csv", ("true",))
    names = [row["true"] for row in rows]
    try:
        counts = [[int(row[name]) for name in names] for row in rows]
        if not all(0 <= count < MAX_NUMBER for row in counts for count in row):
            raise ValueError("a count is out of all bounds")
        if len(set(names)) < len(names):
            raise ValueError("a class is there twice")
    except (KeyError, ValueError) as error:
        run.damaged("confusion_matrix.csv", error)
        return None
    if not names:
        return None
    counts = np.array(counts)
    num_images = metrics.support(counts)
    shares = counts / np.maximum(num_images, 1)[:, None]
    wrong = shares - np.diag(np.diag(shares))
    pairs = [divmod(int(cell), len(names)) for cell in np.argsort(-wrong, axis=None, kind="stable")]
    columns = np.stack([f(counts) for f in (metrics.precision, metrics.recall, metrics.f1)])
    return {
        "names": names,
        "counts": counts.tolist(),
        "shares": shares.tolist(),
        "support": num_images.tolist(),
        "confused": [pair for pair in pairs[:NUM_CONFUSED] if wrong[pair]],
        "classes": list(zip(names, columns.T.tolist(), num_images.tolist(), strict=True)),
        "means": columns.mean(axis=1).tolist(),
        "total": int(counts.sum()),
        "tiles": tiles(run, "confusion_examples.png", len(names)),
    }


def worst(run):
    """The worst mistakes: class, loss, the three most probable classes; and their images."""
    mistakes = []
    for row in run.rows("worst_20.csv", metrics.MISTAKE_COLUMNS):
        top = [(row[f"class_{i}"], as_number(row[f"probability_{i}"])) for i in (1, 2, 3)]
        if not all(share is not None and 0 <= share <= 1 for _, share in top):
            run.damaged("worst_20.csv", "a probability is no number from 0 to 1")
            return None
        mistakes.append({"true": row["true"], "loss": row["loss"], "top": top})
    return {"mistakes": mistakes, "tiles": tiles(run, "worst_20_images.png", 1)}


def tiles(run, name, rows):
    """A picture of square tiles in so many rows; size: of one, in pixels. None without."""
    image = run.image(name)
    return image and {**image, "size": max(1, image["height"] // rows)}


# --- the page -----------------------------------------------------------------------------------


def write_page(save_dir, live=False):
    """Read all runs in save_dir and write save_dir/report.html; returns its path.

    live: the open page follows by itself.
    """
    tasks = {f.__name__: f(save_dir) for f in (task_1, task_2, task_3, task_4, bonus)}
    loader = jinja2.FileSystemLoader(ROOT)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    filters = {"percent": percent, "duration": duration, "number": number}
    environment.filters |= {**filters, "transposed": lambda columns: zip(*columns, strict=True)}
    page = environment.get_template("report_template.html").render(
        **tasks,
        live=live,
        version=str(time.time_ns()),
        nonce=secrets.token_urlsafe(16),
        written=time.strftime("%Y-%m-%d %H:%M"),
    )
    save_dir.mkdir(parents=True, exist_ok=True)
    path = save_dir / "report.html"
    write_whole(path, page.lstrip())
    return path


def percent(value, digits=2):
    """A fraction, or the text of one, as per cent; a dash for anything else."""
    value = as_number(value)
    if value is None:
        return "–"
    return f"{100 * value:.{digits}f}\u00a0%"  # a space at which no line breaks


def number(value, spec=","):
    """A number, or the text of one, by a format; a dash for anything else."""
    value = as_number(value)
    return "–" if value is None else format(value, spec)


def duration(seconds):
    seconds = as_number(seconds)
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s"


# --- running ------------------------------------------------------------------------------------


def run(config):
    """Write the page as config says; returns the exit status."""
    save_dir = Path(config.save_dir) / "demo" if config.demo else Path(config.save_dir)
    failed = 0
    if config.run_missing or config.demo:
        failed = run_missing(save_dir, DEMO_OPTIONS if config.demo else {})
    path = write_page(save_dir, live=config.watch)
    print(f"the page is {path}", flush=True)
    if config.watch:
        watch(save_dir)
    return 1 if failed else 0


def watch(save_dir):
    """Rewrite the page whenever a run has got on, until Ctrl-C; then once more, to stay."""
    print("the open page follows the runs; Ctrl-C ends that", flush=True)
    seen = progress(save_dir)
    try:
        while True:
            time.sleep(WATCH_SECONDS)
            now = progress(save_dir)
            if now != seen:
                seen = now
                write_page(save_dir, live=True)
    except KeyboardInterrupt:
        write_page(save_dir)


def progress(save_dir):
    """What changes when a run gets on: when its tables were last written."""
    times = {}
    for path in [*save_dir.rglob("*.csv"), *save_dir.rglob("results.json")]:
        with contextlib.suppress(OSError):  # moved aside in between
            times[path] = path.stat().st_mtime_ns
    return times


def run_missing(save_dir, options):
    """Run the scripts that have not come to their end in save_dir; returns how many failed.

    options: {script: a list of command-line options}.
    """
    failed = 0
    for place, (script, mark) in enumerate(SCRIPTS.items(), start=1):
        title = f"{place}/{len(SCRIPTS)} {script}.py"
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


def is_done(folder, mark):
    if mark != "results.json":
        return (folder / mark).exists()
    return Record(folder).json(mark).get("status") in ("finished", "diverged")


def main(argv=None):
    config = parse(Config, argv, __doc__)
    with one_line_errors():
        sys.exit(run(config))


if __name__ == "__main__":
    main()
