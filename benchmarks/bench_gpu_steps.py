"""The steps of bench_gpu.py: one process each, timed, ended in time, and what it left read."""

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from support import files, tables
from support.start import ROOT

COLUMNS = ["step", "command", "status", "test_acc", "test_acc_plain", "training_seconds"]
COLUMNS += ["seconds", "note"]
POLL_SECONDS = 0.05
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
TINY = [str(ROOT / "benchmarks" / "bench_gpu_tiny.py")]


@dataclass(kw_only=True)
class Step:
    """A script that is run as a user would run it, in a process of its own.

    options: all but --save-dir, which is folder; plan: the seconds it may take; kill_after: epochs
    after which it is killed, half an epoch later; like: a folder, of a run whose weights this one
    should have in the end; launcher: what stands before the script.
    """

    name: str
    script: str
    options: list
    folder: Path
    plan: float
    kill_after: int = 0
    like: Path | None = None
    launcher: list = ()

    @property
    def run_folder(self):
        return self.folder / Path(self.script).stem

    def arguments(self):
        """What follows `python3`."""
        return [*self.launcher, self.script, *self.options, "--save-dir", str(self.folder)]

    @property
    def command(self):
        """What a user would type."""
        start = ["torchrun", *TORCHRUN[2:]] if TORCHRUN[0] in self.launcher else ["python3"]
        return shlex.join([*start, self.script, *self.options])

    def row(self, status, note="", **values):
        """A row of the table."""
        row = {"step": self.name, "command": self.command, "status": status, "note": note}
        return dict.fromkeys(COLUMNS) | row | values


def run(step, limit):
    """The row of a step that is run, for at most so many seconds.

    What it prints goes into a file in its folder. However this ends, nothing is left running.
    """
    step.folder.mkdir(parents=True, exist_ok=True)
    said = step.folder / f"{step.name.replace(' ', '_').replace(',', '')}.txt"
    with said.open("w", encoding="utf-8") as file:
        begun = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, *step.arguments()],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = _wait(process, step, begun + limit)
            seconds = time.monotonic() - begun
        finally:
            end(process)
    if step.kill_after and status == "done":
        return step.row("failed", "it was over before it could be killed", seconds=seconds)
    if status != "done":
        notes = {"failed": last_line(said), "stopped": f"it took too long; see {said}"}
        notes["killed"] = f"in epoch {len(finished_epochs(step)) + 1}, by SIGKILL"
        return step.row(status, notes[status], seconds=seconds)
    try:
        values, notes = outcome(step)
    except (OSError, ValueError, KeyError) as error:
        return step.row("failed", f"left no results: {error}", seconds=seconds)
    return step.row("done", "; ".join(notes), seconds=seconds, **values)


def _wait(process, step, deadline):
    """How a process ends: done, failed, killed (as it should be), or stopped at the deadline."""
    while process.poll() is None:
        if time.monotonic() > deadline:
            return "stopped"
        if step.kill_after and (history := finished_epochs(step)[step.kill_after - 1 :]):
            with suppress(subprocess.TimeoutExpired):
                process.wait(float(history[-1]["seconds"]) / 2)
            if process.poll() is None:
                end(process)
                return "killed"
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)
    return "done" if process.returncode == 0 else "failed"


def finished_epochs(step):
    """The rows of a run's history, none as long as there is none."""
    try:
        return tables.read_table(step.run_folder / "history.csv", ["seconds"])
    except (OSError, ValueError):
        return []


def end(process):
    """Kill (SIGKILL) a process and all that it started, in their groups."""
    if hasattr(os, "killpg"):
        for group in groups(process.pid):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def groups(pid):
    """The process groups of a process that leads one, and of all that it started: torchrun gives
    each process one of its own. Only Linux tells.
    """
    families = {}  # process: its parent, and its group
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            _, parent, group, *_ = path.read_text(errors="replace").rpartition(")")[2].split()
            families[int(path.parent.name)] = int(parent), int(group)
    found, size = {pid}, 0
    while len(found) > size:
        size = len(found)
        found |= {child for child, (parent, _) in families.items() if parent in found}
    return {pid, *(families[member][1] for member in found if member in families)}


def last_line(path):
    """The last line that a process has printed: why it failed."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    spoken = [line.strip() for line in lines if line.strip(" =-")]  # torchrun draws rules
    return spoken[-1] if spoken else "it said nothing"


# --- what a step leaves ---------------------------------------------------------------------------


def outcome(step):
    """The values for a step's row, and its notes.

    Raises: OSError, ValueError, KeyError if the run has not left what it should.
    """
    if step.script == "hinge_bonus.py":
        rows = tables.read_table(step.run_folder / "comparison.csv")
        return {}, [f"{row['loss']} {float(row['test_acc_mean']):.2%}" for row in rows]
    results = files.read_json(step.run_folder / "results.json")
    values = {"test_acc": results["test_acc"], "training_seconds": results["seconds"]}
    values["test_acc_plain"] = results.get("test_acc_plain")
    notes = [] if results["provenance"] == "official" else [results["provenance"]]
    if step.like is not None:
        found = likeness(step.run_folder / "model.pt", step.like / "model.pt")
        notes.append(f"against {step.like.parent.name}: {found}")
    return values, notes


def likeness(path, other):
    """How far the weights in a model.pt are from those in another, in words."""
    import torch

    ours, theirs = (
        torch.load(file, map_location="cpu", weights_only=True) for file in (path, other)
    )
    if all(torch.equal(ours[name], theirs[name]) for name in theirs):
        return "the same bits"
    pairs = [(ours[name].double().ravel(), theirs[name].double().ravel()) for name in theirs]
    ours, theirs = (torch.cat(vectors) for vectors in zip(*pairs, strict=True))
    distance = ((ours - theirs).norm() / theirs.norm()).item()
    num_other = (ours != theirs).sum().item()
    return f"other bits: {num_other:,} of {len(ours):,} numbers, {distance:.1e} of their length"
