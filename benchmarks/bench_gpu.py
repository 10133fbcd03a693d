"""What the project does on a GPU: five seeds of the large network, and whether all else works.

    python3 benchmarks/bench_gpu.py                       # at most 12 minutes, on an H100 or H200
    python3 benchmarks/bench_gpu.py --minutes 6 --seeds 2
    python3 benchmarks/bench_gpu.py --tiny                # all of it on a CPU, tiny: two minutes

Each step is a process of its own, one after the other, the most valuable first:

    step                                                             planned seconds
    all data are read once, so that every step finds them in memory               15
    pytorch_cifar.py --model strong --size large, seeds 0 to 4                5 x 90
    pytorch_mnist.py, pytorch_cifar.py, hinge_bonus.py --seeds 1        30 + 35 + 60
    six epochs of the large network with --deterministic: alone; under        4 x 20
        torchrun, one process; killed (SIGKILL) in the middle; resumed.
        Have the second and the last one the bits of the first?
    the same without --deterministic, twice: the same bits?                   2 x 20

Where the steps so far took longer than planned, so will the others. What would not end in time is
left out, and a step that takes three times what was planned is stopped. The table is written after
every step, as .csv and, ready to be pasted, as Markdown; both lie in out/benchmarks/gpu/, and so
does what the steps print. "Training" are the seconds of all epochs, without evaluation; "start to
end" are those from the start of the process to its end.
"""

import argparse
import datetime
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import side_by_side

import bench_gpu_steps as steps

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from support import data, files, tables
from support.errors import one_line_errors
from support.facts import software_facts
from support.folders import move_aside
from support.options import CommonConfig, available_threads
from support.start import ROOT

RESERVE_SECONDS = 10  # of the given minutes, for what follows the last step
PATIENCE = 3  # times what a step was planned to take
LARGE = ("--model", "strong", "--size", "large")
SHORT = (*LARGE, "--epochs", "6")
STOPPING = ("SIGTERM", "SIGHUP")  # end the process of a step first, as Ctrl-C does
NUMBERS = ("test_acc", "test_acc_plain", "training_seconds", "seconds")
TITLES = ("step", "test accuracy", "plain", "training, s", "start to end, s", "")


def plan(options):
    """Groups of steps; a group is begun only where there is time for all of it."""
    save_dir = Path(options.save_dir)
    shared, few, tiny = ["--device", options.device], [], []
    if options.data_dir:
        shared += ["--data-dir", options.data_dir]
    if options.tiny:
        shared += ["--dataset", "synthetic", "--threads", "1", "--batch-size", "20"]
        few, tiny = ["--epochs", "2"], steps.TINY

    def step(name, seconds, script, *own, folder=None, like=None, launcher=(), kill_after=0):
        return steps.Step(
            name=name,
            script=script,
            options=[*own, *shared],
            folder=save_dir / (folder or name).replace(" ", "_"),
            plan=seconds,
            like=like and save_dir / like / "pytorch_cifar",
            kill_after=kill_after,
            launcher=[*launcher, *tiny],
        )

    def large(name, seconds, *own, **more):
        return step(name, seconds, "pytorch_cifar.py", *own, **more)

    exact, killed = (*SHORT, "--deterministic"), "exact killed"
    return [
        *([large(f"seed {n}", 90, *LARGE, *few, "--seed", str(n))] for n in range(options.seeds)),
        [step("Task 3", 30, "pytorch_mnist.py", *few)],
        [step("Task 4", 35, "pytorch_cifar.py", *few)],
        [step("bonus", 60, "hinge_bonus.py", "--seeds", "1", *few)],
        [
            large("exact", 20, *exact),
            large("exact torchrun", 20, *exact, launcher=steps.TORCHRUN, like="exact"),
            large(killed, 20, *exact, kill_after=3),
            large("exact resumed", 20, *exact, "--resume", folder=killed, like="exact"),
        ],
        [large("short", 20, *SHORT), large("short again", 20, *SHORT, like="short")],
    ]


def run_all(groups, deadline, keep):
    """The rows of all steps, of those that are left out as well. keep(rows): after every step."""
    rows, planned, taken = [], 0, 0
    for group in groups:
        pace = max(1, taken / planned) if planned else 1
        needed, left = pace * sum(step.plan for step in group), deadline - time.monotonic()
        if needed > left:
            reason = f"needs about {needed:.0f} s, {max(0, left):.0f} s are left"
            rows += [step.row("left out", reason) for step in group]
            print(f"{', '.join(step.name for step in group)}: left out: {reason}", flush=True)
            keep(rows)
            continue
        for step in group:
            print(f"{step.name}: {step.command} ...", flush=True)
            left = deadline - time.monotonic()
            row = steps.run(step, min(left, PATIENCE * pace * step.plan))
            planned, taken = planned + step.plan, taken + row["seconds"]
            print(f"    {row['status']}: {', '.join(filter(None, cells(row)[1:]))}", flush=True)
            rows.append(row)
            keep(rows)
    return rows


# --- the table ------------------------------------------------------------------------------------


def with_mean(rows):
    """The rows, and behind the seeds their mean."""
    seeds = [row for row in rows if row["step"].startswith("seed ")]
    done = [row for row in seeds if row["status"] == "done"]
    if len(done) < 2:
        return rows
    values = {name: np.array([row[name] for row in done]) for name in NUMBERS}
    mean = dict.fromkeys(steps.COLUMNS) | {name: float(v.mean()) for name, v in values.items()}
    deviation, slowest = values["test_acc"].std(ddof=1), values["seconds"].max()
    mean |= {"step": f"mean of {len(done)} seeds", "status": "done"}
    mean["note"] = f"standard deviation {deviation:.2%}, the slowest took {slowest:.1f} s"
    return [*seeds, mean, *rows[len(seeds) :]]


def cells(row):
    """A row as texts, under the TITLES."""
    specs = (".2%", ".2%", ".1f", ".1f")
    numbers = [row[name] for name in NUMBERS]
    shown = ["" if n is None else format(n, spec) for n, spec in zip(numbers, specs, strict=True)]
    status = row["status"] if row["status"] != "done" else ""
    return [row["step"], *shown, ": ".join(filter(None, (status, row["note"])))]


def markdown(rows, facts):
    """The table and what it was measured with, to be pasted."""
    lines = [TITLES, ["---"] * len(TITLES), *map(cells, with_mean(rows))]
    table = "\n".join(f"| {' | '.join(line)} |".replace("  ", " ") for line in lines)
    return f"{table}\n\n{'; '.join(f'{name} {value}' for name, value in facts.items())}\n"


def keep(rows, facts, folder):
    tables.write_table(folder / "bench_gpu.csv", steps.COLUMNS, with_mean(rows))
    files.write_whole(folder / "bench_gpu.md", markdown(rows, facts).encode())


# --- the environment ------------------------------------------------------------------------------


def environment(device):
    """What all this is measured with."""
    import torch

    software = software_facts("numpy", "torch")
    facts = {"card": "none", "driver": "none"}
    if device == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        facts["card"] = f"{torch.cuda.get_device_name(0)} ({memory:.0f} GiB)"
        facts["driver"] = said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    facts |= {"PyTorch": torch.__version__, "CUDA": torch.version.cuda or "none"}
    facts |= {"CPU": f"{software['processor']}, {available_threads()} threads"}
    facts |= {"Python": software["versions"]["python"], "on": datetime.date.today().isoformat()}
    return facts | {"commit": said("git", "-C", str(ROOT), "describe", "--always", "--dirty")}


def said(*command):
    """The first line that a command prints, if there is such a command."""
    with suppress(OSError, subprocess.SubprocessError, IndexError):
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        return done.stdout.splitlines()[0].strip()
    return "unknown"


def read_data(data_dir):
    """Have all data on the disk and in the system's memory, and say what they are."""
    data_dir = data_dir or CommonConfig().data_dir
    for load in (data.load_mnist, data.load_cifar10):
        load(data_dir).introduce()


def parsed(argv):
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--minutes", type=float, default=12, help="it may take in all [12]")
    parser.add_argument("--seeds", type=int, default=5, help="of the large network [5]")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="[cuda]")
    parser.add_argument("--data-dir", help="of the scripts [DATA_DIR, or datasets/]")
    default = side_by_side.OUT / "gpu"
    parser.add_argument("--save-dir", default=str(default), help=f"for all files [{default}]")
    parser.add_argument("--tiny", action="store_true", help="try it out on the CPU, on tiny data")
    options = parser.parse_args(argv)
    if options.tiny:
        options.device = "cpu"
    for name in ("data_dir", "save_dir"):  # the steps run in the project's folder
        if folder := getattr(options, name):
            setattr(options, name, str(Path(folder).resolve()))
    return options


def main(argv=None):
    begun = time.monotonic()
    options = parsed(argv)
    for number in [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores one
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    if options.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            sys.exit("bench_gpu.py: PyTorch finds no GPU here; --tiny tries all this on the CPU")
    folder, rows = Path(options.save_dir), []
    with one_line_errors(data.DataError, resumes=False):
        if (folder / "bench_gpu.csv").exists():
            print(f"the earlier files are kept in {move_aside(folder)}")
        facts = environment(options.device)
        print("\n".join(f"{name:8}  {value}" for name, value in facts.items()), flush=True)
        if not options.tiny:
            read_data(options.data_dir)
        deadline = begun + 60 * options.minutes - RESERVE_SECONDS

        def remember(found):
            rows[:] = found
            keep(rows, facts, folder)

        try:
            run_all(plan(options), deadline, remember)
        finally:
            table = [cells(row) for row in with_mean(rows)]
            columns = [(title, "<" if title in ("step", "") else "") for title in TITLES]
            print(f"\n{tables.text_table(columns, table)}\n\n{markdown(rows, facts)}")
            print(f"{time.monotonic() - begun:.0f} s; the table is in {folder}/bench_gpu.csv, .md")
    return int(any(row["status"] in ("failed", "stopped") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
