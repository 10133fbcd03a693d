"""Data sets: found on disk, else downloaded, else drawn; checked, split and normalised.

N images, C channels, H, W rows and columns, K classes.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from support.cifar10_batches import parse_cifar10_batch
from support.cifar10_files import CIFAR10_FILES, find_cifar10, parse_binary_batch
from support.data_files import DataError, NotFoundError, read_bytes, warn
from support.mnist_files import MNIST_FILE_LIMIT, MNIST_FILES, find_mnist, parse_idx
from support.standins import SHAPES, generated_digits, generated_shapes

import numpy as np

MNIST_VALID_SIZE = 5_000
CIFAR10_CLASSES = [
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
]  # fmt: skip
CIFAR10_VALID_SIZE = 5_000
CIFAR10_SPLIT_SEED = 0


@dataclass
class Dataset:
    """Images in float32, normalised as image = (pixel / 255 - mean) / std; labels as integers.

    Shapes: *_x (N, C, H, W), *_y (N,); mean and std scalars or (C, 1, 1).
    provenance: official | unverified copy | generated. trains_with_valid: whether the validation
    images are among the training images, too.
    """

    name: str
    provenance: str
    class_names: list
    train_x: np.ndarray
    train_y: np.ndarray
    valid_x: np.ndarray
    valid_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    trains_with_valid: bool = False

    @property
    def title(self):
        """What the images are, for the head of a picture."""
        name = {"mnist": "MNIST", "cifar10": "CIFAR-10"}.get(self.name, self.name)
        titles = {"generated": f"generated images, not {name}", "official": name}
        return titles.get(self.provenance, f"{name} ({self.provenance})")

    @property
    def note(self):
        """What a reader of the results must know about the data; empty if it is the official."""
        notes = {
            "generated": "generated stand-in, not the real data",
            "unverified copy": "unverified copy: its MD5 sums are not the official ones",
        }
        said = [f"{self.name}: {notes[self.provenance]}"] if self.provenance in notes else []
        return "; ".join(said + ["validation images were trained with"] * self.trains_with_valid)

    def introduce(self):
        """Say at the start of a run what the images are and how many, and warn as announce does."""
        sizes = " / ".join(f"{len(y):,}" for y in (self.train_y, self.valid_y, self.test_y))
        print(f"{self.name}: {self.provenance}, {sizes} images for training, validation and test")
        self.announce()

    def announce(self):
        """Say so if the images are not the official ones; at the start and at the end of a run."""
        if self.note:
            print(self.note)

    def all_to_train_with(self):
        """The same, with the validation images among the training images, too."""
        return replace(
            self,
            train_x=np.concatenate([self.train_x, self.valid_x]),
            train_y=np.concatenate([self.train_y, self.valid_y]),
            trains_with_valid=True,
        )

    def pixels(self, images):
        """Normalised images as they were, (N, C, H, W) to (N, H, W, C) of uint8."""
        restored = np.clip((images * self.std + self.mean) * 255, 0, 255)
        return np.rint(restored).astype(np.uint8).transpose(0, 2, 3, 1)


def one_hot(labels, num_classes, dtype=np.float32):
    """Shapes: labels (N,) -> (N, num_classes), a single 1 in each row."""
    return np.eye(num_classes, dtype=dtype)[labels]


def load_mnist(data_dir, dataset="auto", train_size=None):
    """MNIST, split 55,000 / 5,000 / 10,000; pixels / 255 minus the mean of the training images.

    dataset: 'mnist' the real data, from data_dir/MNIST/raw or another place where unpackers leave
    it, or downloaded to there; 'synthetic' the generated stand-in; 'auto' the first to be had.
    train_size: only the first so many training images.
    Raises: DataError if files are damaged, or missing with 'mnist', or train_size is too large.
    Source: LeCun et al., Gradient-based learning applied to document recognition, 1998.
    """
    data_dir = Path(data_dir)
    if dataset == "synthetic":
        return _mnist_dataset(generated_digits(data_dir), "generated", train_size)
    try:
        paths = find_mnist(data_dir)
    except NotFoundError as error:
        if dataset == "mnist":
            raise DataError(str(error)) from error
        warn(f"{error}; training on generated digits instead")
        return _mnist_dataset(generated_digits(data_dir), "generated", train_size)
    contents = {name: read_bytes(path, MNIST_FILE_LIMIT) for name, path in paths.items()}
    arrays = {name: parse_idx(content, paths[name]) for name, content in contents.items()}
    for name, array in arrays.items():
        expected = (MNIST_FILES[name][2], *((28, 28) if "images" in name else ()))
        if array.shape != expected:
            raise DataError(f"{paths[name]}: expected an array of {expected}, got {array.shape}")
        if "labels" in name and array.max() > 9:
            raise DataError(f"{paths[name]}: expected labels from 0 to 9, got {array.max()}")
    official = all(
        hashlib.md5(content, usedforsecurity=False).hexdigest() == MNIST_FILES[name][1]
        for name, content in contents.items()
    )
    provenance = "official" if official else "unverified copy"
    return _mnist_dataset([arrays[name] for name in MNIST_FILES], provenance, train_size)


def _mnist_dataset(arrays, provenance, train_size):
    """Split and normalise arrays of training and test images and labels, in that order."""
    train_x, train_y, test_x, test_y = arrays
    split = len(train_x) - MNIST_VALID_SIZE
    if train_size is not None and train_size > split:
        raise DataError(f"--train-size: there are {split} training images, got {train_size}")
    size = split if train_size is None else train_size
    images = [part[:, np.newaxis] for part in (train_x[:size], train_x[split:], test_x)]
    labels = [train_y[:size], train_y[split:], test_y]
    mean = np.float32(images[0].mean(dtype=np.float64) / 255)
    names = [str(digit) for digit in range(10)]
    return _normalised("mnist", provenance, names, images, labels, mean, np.float32(1))


def _normalised(name, provenance, class_names, images, labels, mean, std):
    """A Dataset of three arrays of images (N, C, H, W) of uint8, and three of labels."""
    floats = [np.empty(part.shape, np.float32) for part in images]
    for array, pixels in zip(floats, images, strict=True):
        for some in _pieces(len(pixels)):
            array[some] = pixels[some]
            array[some] /= 255
            array[some] -= mean
            array[some] /= std
    labels = [part.astype(np.int64) for part in labels]
    parts = [array for pair in zip(floats, labels, strict=True) for array in pair]
    return Dataset(name, provenance, class_names, *parts, mean, std)


def _pieces(num_images):
    """Slices of so few images that a processor's cache holds them, whatever is done to them."""
    return [slice(first, first + 100) for first in range(0, num_images, 100)]


def load_cifar10(data_dir, dataset="auto", train_size=None):
    """CIFAR-10, split 45,000 / 5,000 / 10,000; per channel minus mean, divided by deviation.

    Mean and deviation are those of the training images. The validation images are drawn at random,
    always the same ones.
    dataset: 'cifar10' the real data, from data_dir/cifar-10-batches-py, the archive in data_dir or
    other places where unpackers leave them, in the Python or the binary version, or downloaded;
    'synthetic' the generated stand-in; 'auto' the first of the two to be had.
    train_size: only the first so many training images.
    Raises: DataError if files are damaged, or missing with 'cifar10', or train_size is too large.
    Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    data_dir = Path(data_dir)
    if dataset == "synthetic":
        return _cifar10_dataset(generated_shapes(data_dir), "generated", SHAPES, train_size)
    try:
        files = find_cifar10(data_dir)
    except NotFoundError as error:
        if dataset == "cifar10":
            raise DataError(str(error)) from error
        warn(f"{error}; training on generated shapes instead")
        return _cifar10_dataset(generated_shapes(data_dir), "generated", SHAPES, train_size)
    batches = [
        (parse_binary_batch if name.endswith(".bin") else parse_cifar10_batch)(content, path)
        for name, (path, content) in files.items()
    ]
    official = all(
        hashlib.md5(content, usedforsecurity=False).hexdigest() == CIFAR10_FILES.get(name)
        for name, (_, content) in files.items()
    )
    images = [batch[0].reshape(-1, 3, 32, 32) for batch in batches]
    labels = [batch[1] for batch in batches]
    arrays = np.concatenate(images[:5]), np.concatenate(labels[:5]), images[5], labels[5]
    provenance = "official" if official else "unverified copy"
    return _cifar10_dataset(arrays, provenance, CIFAR10_CLASSES, train_size)


def _cifar10_dataset(arrays, provenance, class_names, train_size):
    """Split and normalise arrays of training and test images and labels, in that order."""
    train_x, train_y, test_x, test_y = arrays
    order = np.random.default_rng(CIFAR10_SPLIT_SEED).permutation(len(train_x))
    valid, train = np.split(order, [CIFAR10_VALID_SIZE])
    if train_size is not None and train_size > len(train):
        raise DataError(f"--train-size: there are {len(train)} training images, got {train_size}")
    train = train[:train_size]
    images = [train_x[train], train_x[valid], test_x]
    labels = [train_y[train], train_y[valid], test_y]
    mean, std = _mean_and_deviation(images[0])
    return _normalised("cifar10", provenance, class_names, images, labels, mean, std)


def _mean_and_deviation(images):
    """Per channel, of images (N, C, H, W) of uint8 divided by 255. Shapes: (C, 1, 1) each."""
    counts = np.zeros((images.shape[1], 256), np.int64)
    for some in _pieces(len(images)):
        for channel, count in zip(images[some].swapaxes(0, 1), counts, strict=True):
            count += np.bincount(channel.ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = np.array([np.average(values, weights=count) for count in counts])
    square = np.array([np.average(values**2, weights=count) for count in counts])
    std = np.sqrt(np.maximum(square - mean**2, 1e-12))
    return (array.astype(np.float32).reshape(-1, 1, 1) for array in (mean, std))
