"""What results.json says of the data, the machine and the software of a run."""

import hashlib
import platform
import shlex
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

from support import surroundings

import numpy as np

NUM_IMAGES = 500  # that a fingerprint is taken of


def run_facts(options, dataset, device, *packages):
    """What results.json says from the start. dataset: with a name and a provenance; packages: those
    whose versions matter."""
    return {
        "dataset": dataset.name,
        "provenance": dataset.provenance,
        "training_data": fingerprint(dataset),
        "num_train": len(dataset.train_x),
        "trains_with_valid": dataset.trains_with_valid,
        "command": shlex.join(["python3", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seed": options["seed"],
        "threads": options["threads"],
        "device": device,
        **software_facts(*packages),
    }


def fingerprint(dataset):
    """A name for the training data: a digest of all labels, and of the pixels of at least
    NUM_IMAGES images, evenly spread, if there are so many; all would take as long as many steps.
    """
    some = dataset.train_x[:: max(1, len(dataset.train_x) // NUM_IMAGES)]
    return digest(np.asarray(dataset.train_y, np.int64).tobytes() + dataset.pixels(some).tobytes())


def digest(content):
    """Bytes as the first digits of their SHA-256, enough to tell them from others."""
    return f"sha256 {hashlib.sha256(content).hexdigest()[:16]}"


def software_facts(*packages):
    """The versions, the platform and the processor, for results.json."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    return {"versions": versions, "platform": platform.platform(), "processor": _processor()}


def _processor():
    """The name of the processor, as far as the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def hint_at_other_programs(threads):
    """Once, before a script's first training: later ones would find the load of the first."""
    if hint := surroundings.busy_hint(threads):
        print(hint)
