"""The batches of an epoch: which images each of them has, and random numbers of its own."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Batch:
    """The images of a step."""

    indices: np.ndarray
    step: int  # of the epoch, from 1
    progress: float  # share of all training that is done at the middle of the step: never 0 or 1
    seeds: tuple

    @cached_property
    def rng(self):
        """Random numbers of this step, which depend on nothing but the seed and the step."""
        return np.random.default_rng(self.seeds)


def shuffled(images, seed, epoch):
    """The indices of an epoch in their order, which depends on seed and epoch alone.

    images: how many there are, or the indices of those to draw from.
    """
    images = np.arange(images) if np.ndim(images) == 0 else images
    return images[np.random.default_rng([seed, epoch]).permutation(len(images))]
