"""Observes a file with layers in a process of its own, which knows nothing of right and wrong.

    python3 -m checks.worker LAYERS.py OUT.npz [--seed N] [--only FC]

OUT.npz is what records.read reads. If the file cannot be imported, its only entry is "module", a
text that says why.
"""

import argparse

from checks import loading, probes, records


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("layers")
    parser.add_argument("out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only")
    given = parser.parse_args(argv)
    layers, failure = loading.load(given.layers)
    seen = {"module": failure} if failure else probes.observe(layers, given.seed, given.only)
    records.write(given.out, seen)


if __name__ == "__main__":
    main()
