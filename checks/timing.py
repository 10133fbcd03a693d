"""How long functions take, in spite of what else the machine does."""

import time

import numpy as np

ROUNDS = 200
WARM_UP = 20  # rounds that do not count


def in_turns(functions):
    """The median seconds of a call of each; they take turns, so that all meet the same load."""
    seconds = np.empty((ROUNDS, len(functions)))
    for times in seconds:
        for i, function in enumerate(functions):
            begun = time.perf_counter()
            function()
            times[i] = time.perf_counter() - begun
    return np.median(seconds[WARM_UP:], axis=0).tolist()


def one_digit(value):
    """A positive number with its first digit alone: more would differ from call to call."""
    return float(f"{value:.0e}")
