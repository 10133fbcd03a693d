"""Run a script in seconds, on any machine: a few generated images, narrow networks in strong/.

    python3 benchmarks/bench_gpu_tiny.py pytorch_cifar.py --model strong --dataset synthetic

What bench_gpu.py --tiny starts in the place of a script.
"""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from support import data, standins
from support.start import ROOT

NUM_TRAIN, NUM_VALID, NUM_TEST = 60, 40, 40
SIZES = {"small": ((8, 8, 8), False), "medium": ((8, 16, 16), False), "large": ((8, 16, 16), True)}


def few(draw):
    """What takes the place of data.generated_digits or generated_shapes, by standins' draw."""
    split = NUM_TRAIN + NUM_VALID

    def generated(_data_dir):
        images, labels = draw(split + NUM_TEST, 0)
        return images[:split], labels[:split], images[split:], labels[split:]

    return generated


def main():
    from strong import network

    network.SIZES.update(SIZES)
    data.MNIST_VALID_SIZE = data.CIFAR10_VALID_SIZE = NUM_VALID
    data.generated_digits = few(standins.draw_digits)
    data.generated_shapes = few(standins.draw_shapes)
    sys.argv.pop(0)
    runpy.run_path(str(ROOT / sys.argv[0]), run_name="__main__")


if __name__ == "__main__":
    main()
