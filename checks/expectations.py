"""Right numbers and those of known mistakes: what judge compares with, and its file."""

import json
from dataclasses import dataclass
from pathlib import Path

from checks import records

FILE = Path(__file__).with_name("expected.npz")  # of a hand-out, for seed 0


@dataclass
class Mistake:
    """A known mistake in one method.

    variants: ways to make it, for each the numbers by key where they are not the right ones.
    """

    id: str
    method: str
    sentence: str
    formula: str
    variants: list


@dataclass
class Expected:
    """right: for each key the values that are right, one or more; mistakes: the known ones."""

    right: dict
    mistakes: list


def save(path, expected):
    """Write an Expected into a file, in which nothing is pickled."""
    values = {
        f"right/{key}/{i}": value
        for key, alternatives in expected.right.items()
        for i, value in enumerate(alternatives)
    }
    index = []
    for number, mistake in enumerate(expected.mistakes):
        index.append({k: v for k, v in vars(mistake).items() if k != "variants"})
        index[-1]["variants"] = len(mistake.variants)
        for i, variant in enumerate(mistake.variants):
            values |= {f"mistake/{number}/{i}/{key}": value for key, value in variant.items()}
    records.write(path, {"index": json.dumps(index), **values})


def load(path):
    """The Expected in a file. Raises: OSError; ValueError if it is damaged."""
    values = records.read(path)
    mistakes = [
        Mistake(**{**entry, "variants": [{} for _ in range(entry["variants"])]})
        for entry in json.loads(values.pop("index"))
    ]
    right = {}
    for name, value in values.items():
        kind, _, rest = name.partition("/")
        if kind == "right":
            right.setdefault(rest.rpartition("/")[0], []).append(value)
        else:
            number, i, key = rest.split("/", 2)
            mistakes[int(number)].variants[int(i)][key] = value
    return Expected(right, mistakes)


def for_hand_out(of_torch=False):
    """The Expected for seed 0: from the file where it lies, else computed."""
    if FILE.exists():
        return load(FILE)
    # a hand-out does not have these
    if of_torch:
        from checks.torch_expected import expected
    else:
        from checks.expected import expected

    return expected()
