"""What the 16-bit weights of the report page cost: how many answers on the test images are others
than with the weights as they were trained, and how many characters a network takes.

    python3 benchmarks/page_networks.py                   # the runs in out/
    python3 benchmarks/page_networks.py --save-dir runs --data-dir datasets

One view of each image: Task 4's own test takes the mean over several.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from support import data, files
from support.page.network.export import packed
from support.page.network.networks import MODEL, UnusableError, read_network, to_bfloat16
from support.read_runs import MAX_ARRAY_BYTES, Record
from support.start import ROOT

import numpy as np

import fast_layers
import nn

LOADERS = {1: data.load_mnist, 3: data.load_cifar10}  # by the channels of an image
RUNS = ("train", "train_l2reg/lambda_*", "pytorch_mnist", "pytorch_cifar")


def as_layers(network, parameters):
    """The layers of fast_layers.py, with the parameters of a run by name."""
    net, before = [], np.zeros((1, *network.input), np.float32)
    for place, layer in enumerate(network.layers):
        kind, name = layer["kind"], layer["name"]
        if kind == "conv":
            sizes = {"padding": layer["pad"], "stride": layer["stride"]}
            before = fast_layers.Convolution(before, layer["F"], layer["k"], name, **sizes)
        elif kind == "pool":
            before = fast_layers.MaxPooling(before, name, layer["size"], layer["stride"])
        elif kind == "fc":
            before = fast_layers.FC(before, layer["F"], name)
        else:
            before = {"relu": fast_layers.ReLU, "flatten": fast_layers.Flatten}[kind](before, name)
        if before.has_params:
            before.weights, before.bias = (
                parameters[f"{place}.{name}.{key}"].astype(np.float32)
                for key in ("weights", "bias")
            )
        net.append(before)
    return net


def measure(folder, data_dir):
    """A line on the network of a run."""
    record = Record(folder)
    try:
        network = read_network(record, MODEL)
    except UnusableError as error:
        return f"no network: {error}"
    trained = record.read(MODEL, files.read_arrays, {}, MAX_ARRAY_BYTES)
    rounded = {name: to_bfloat16(array.astype(np.float32)) for name, array in trained.items()}
    dataset = LOADERS[network.input[0]](data_dir)
    first, second = (
        nn.predict(as_layers(network, parameters), dataset.test_x, 500).argmax(axis=1)
        for parameters in (trained, rounded)
    )
    right = [np.sum(answers == dataset.test_y) for answers in (first, second)]
    return (
        f"{right[0]:,} of {len(first):,} right as trained, {right[1]:,} in 16 bits, "
        f"{np.sum(first != second)} answers differ; "
        f"{network.parameters.size:,} parameters, {len(packed(network)):,} characters"
    )


def main(argv=None):
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--save-dir", type=Path, default=ROOT / "out")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "datasets")
    options = parser.parse_args(argv)
    for folder in (path for run in RUNS for path in sorted(options.save_dir.glob(run))):
        print(f"{folder.name}: {measure(folder, options.data_dir)}", flush=True)


if __name__ == "__main__":
    main()
