"""Time several programs fairly: each in a process of its own, all taking turns.

Two thread pools in one process, or at work at one time, take the cores from each other. So every
contender lives in its own process; a round lets each of them run a few times while the others wait,
and the first runs of a turn, in which caches and pools wake up, do not count. What is compared are
the medians over all rounds.
"""

import multiprocessing
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from support import tables
from support.facts import software_facts
from support.figures import COLORS, style_log_axis
from support.options import available_threads
from support.start import ROOT

OUT = ROOT / "out" / "benchmarks"
REST_SECONDS = 0.05  # between two turns, until the threads of the last one have gone to sleep
TURN_SECONDS = 0.25
WARM_UP_RUNS = 3


class Contender:
    """A process that builds things to time and times them on demand.

    build: a function at the top level of a module; build(threads, *case) returns the function to
    time, or None where the contender cannot do the case.
    """

    def __init__(self, name, build, threads):
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, build, threads), daemon=True)
        self._process.start()

    def prepare(self, *case):
        """Build the function for a case; False if it cannot be done."""
        return self._ask(case)

    def run(self):
        """Seconds of each run of a turn."""
        return self._ask(None)

    def _ask(self, question):
        self._pipe.send(question)
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        self._process.terminate()
        self._process.join()


def _serve(pipe, build, threads):
    function = None
    while True:
        case = pipe.recv()
        try:
            if case is None:
                pipe.send(_turn(function))
            else:
                function = build(threads, *case)
                if function is not None:
                    _turn(function)  # warms up
                pipe.send(function is not None)
        except Exception as error:  # to be raised in the process that asked
            pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


def _turn(function):
    for _ in range(WARM_UP_RUNS):
        function()
    seconds, start = [], time.perf_counter()
    while time.perf_counter() - start < TURN_SECONDS or len(seconds) < 3:
        before = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - before)
    return seconds


def medians(contenders, case, rounds):
    """Median seconds of each contender that can do the case, by name."""
    able = [contender for contender in contenders if contender.prepare(*case)]
    seconds = {contender.name: [] for contender in able}
    for _ in range(rounds):
        for contender in able:
            time.sleep(REST_SECONDS)
            seconds[contender.name] += contender.run()
    return {name: float(np.median(values)) for name, values in seconds.items()}


def machine(*packages):
    """A line that says on what all this was measured."""
    software = software_facts(*packages)
    listed = ", ".join(f"{name} {number}" for name, number in software["versions"].items())
    return f"{software['processor']}, {available_threads()} threads; {listed}"


def write(name, rows):
    """Rows, dicts with the same keys, to out/benchmarks/<name>.csv."""
    OUT.mkdir(parents=True, exist_ok=True)
    tables.write_table(OUT / f"{name}.csv", list(rows[0]), rows)
    print(f"the table is in {OUT / name}.csv")


def draw_ratios(name, title, groups, names, unit):
    """A dot for each contender: its value as a multiple of that of the first one, names[0].

    groups: {label: {name: value}}; to out/benchmarks/<name>.png.
    """
    from matplotlib.figure import Figure

    first, *others = names
    figure = Figure(
        figsize=(10, 1.2 + 0.21 * (len(others) + 1) * len(groups)), layout="constrained"
    )
    axes = figure.subplots()
    ticks = {}
    for place, (label, values) in enumerate(groups.items()):
        top = place * (len(others) + 1)
        ticks[f"{' '.join(label.split())}\n{first}: {values[first]:.3g} {unit}"] = top
        for i, other in enumerate(others):
            if other in values:
                ratio, row = values[other] / values[first], top + i
                color, mark = COLORS[i % len(COLORS)], "os^Dv<>"[i % 7]
                axes.plot(ratio, row, mark, color=color)
                text = f"   {other}: {ratio:.2f} ×, {values[other]:.3g} {unit}"
                axes.text(ratio, row, text, va="center", fontsize=8)
        if place:
            axes.axhline(top - 1, color="0.85", lw=0.8)
    axes.axvline(1, color="black", lw=1)
    axes.set_yticks(list(ticks.values()), list(ticks), fontsize=8)
    axes.invert_yaxis()
    axes.set(title=f"{title}: time in multiples of {first}, lower is better", xscale="log")
    style_log_axis(axes.xaxis)
    axes.margins(x=0.3)  # for the texts
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    OUT.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUT / f"{name}.png", dpi=100)
    print(f"the picture is in {OUT / name}.png")
