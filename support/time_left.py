"""How far scripts that run one after the other have come, and how long the rest will take.

A script's progress is read off the lines it prints. The time left is what was expected of the rest,
times how much longer than expected what is done has taken.
"""

import re
import time

EPOCH = re.compile(r"epoch ([0-9]+)/([1-9][0-9]*): (?:step ([0-9]+)/([1-9][0-9]*))?")
RUN_IS_THERE = "nothing to resume"
TELLS = 0.03  # share of all work from which on what is done tells how fast the machine is


class TimeLeft:
    """expected: {script: (its number of runs, seconds it takes on the machine they were measured
    on)}, of the scripts that will run."""

    def __init__(self, expected):
        self.expected = expected
        self.total = sum(seconds for _, seconds in expected.values())
        self.done = 0.0  # of these seconds, what has been worked off
        self.passed = 0.0  # seconds that took, of this machine
        self.begin(None)

    def begin(self, script):
        """A script starts."""
        self.num_runs, self.script_seconds = self.expected.get(script, (1, 0))
        self.began = time.monotonic()
        self.run, self.epoch, self.epochs = 1, 0, 0
        self.share, self.share_before = 0.0, 0.0  # of it that is done; that was there before

    def read(self, line):
        """Heed a line that the script prints; returns whether it says how far that has come."""
        if RUN_IS_THERE in line:
            self.share = self.run / self.num_runs
            self.share_before += 1 / self.num_runs
            self.run, self.epoch = self.run + 1, 0
            return False
        if not (found := EPOCH.match(line)):
            return False
        epoch, epochs, step, steps = (int(number) if number else 1 for number in found.groups())
        if epoch < self.epoch:
            self.run, self.epoch = self.run + 1, 0
        of_epoch = 1 / (epochs * self.num_runs)
        if self.epoch == 0:  # the first line of a run: the epochs before that were there
            self.share_before += (epoch - 1) * of_epoch
        self.epoch, self.epochs = epoch, epochs
        self.share = (self.run - 1) / self.num_runs + (epoch - 1 + step / steps) * of_epoch
        return True

    def end(self):
        """The script has ended."""
        self.done += (1 - self.share_before) * self.script_seconds
        self.total -= self.share_before * self.script_seconds
        self.passed += time.monotonic() - self.began
        self.begin(None)

    @property
    def seconds(self):
        """Seconds until all scripts have run."""
        done = self.done + (self.share - self.share_before) * self.script_seconds
        total = self.total - self.share_before * self.script_seconds
        passed = self.passed + time.monotonic() - self.began
        pace = passed / done if done > TELLS * total else 1
        return max(0.0, pace * (total - done))

    def __str__(self):
        of_run = f"run {self.run} of {self.num_runs}, " if self.num_runs > 1 else ""
        return f"{of_run}epoch {self.epoch}/{self.epochs}, {about(self.seconds)} left in all"


def about(seconds):
    """A time as one says it."""
    if seconds < 55:
        return f"about {max(10, 10 * round(seconds / 10))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"about {minutes} min"
    return f"about {minutes / 60:.1f} h"
