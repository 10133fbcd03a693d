"""Which of the training images an epoch has: all, or the hard ones.

After some epochs a network is right about most images, and sure of it: they teach it little, at the
price of the others. So from then on an epoch leaves some out, those with the smallest loss when
they were last seen. An image that was left out is in the next epoch for certain, so that none is
forgotten: if a third is left out, that third comes back first, with the harder half of the others.

Source: Loshchilov and Hutter, Online Batch Selection for Faster Training of Neural Networks, 2015,
who draw images in the order of their last losses.
"""

import numpy as np
import torch
from torch.nn import functional

from strong import ranks

MUST_BE_SEEN = 1e9  # a loss above all others; infinity is refused in a checkpoint


class Selection:
    """The images of the epoch that is going on, and what is remembered of each.

    skip: share of the images that an epoch leaves out, after num_whole epochs that leave out none.
    """

    def __init__(self, num_images, skip=0.0, num_whole=1):
        self.num_whole, self.num_skipped = num_whole, round(skip * num_images)
        self.is_in = torch.ones(num_images, dtype=torch.bool)
        self.losses = torch.full((num_images,), MUST_BE_SEEN)
        self.times_seen = torch.zeros(num_images, dtype=torch.int64)

    def state_dict(self):
        return {name: getattr(self, name).clone() for name in ("is_in", "losses", "times_seen")}

    def load_state_dict(self, state):
        self.__dict__.update({name: tensor.clone() for name, tensor in state.items()})

    def size(self, epoch):
        """How many images an epoch has."""
        return len(self.is_in) - (self.num_skipped if epoch > self.num_whole else 0)

    def images(self):
        """The numbers of the images of this epoch, in ascending order."""
        return np.flatnonzero(self.is_in.numpy())

    def remember(self, batch, logits, labels):
        """Keep the losses of a batch's images. Shapes: batch (B,); logits (N, K) and labels
        (N,) for this rank's share of it.
        """
        self.times_seen[batch] += 1
        if self.num_skipped == 0:
            return
        losses = functional.cross_entropy(logits.detach(), labels, reduction="none")
        self.losses[batch] = ranks.gathered(losses.float().cpu(), len(batch))

    def next_epoch(self, epoch):
        """Choose the images of the given epoch, the one after this."""
        self.losses[~self.is_in] = MUST_BE_SEEN
        easiest_first = np.argsort(self.losses.numpy(), kind="stable")
        left_out = easiest_first[: len(self.is_in) - self.size(epoch)].copy()
        self.is_in[:] = True
        self.is_in[left_out] = False
        if len(left_out):
            print(f"the {len(left_out):,} easiest images are left out of epoch {epoch}", flush=True)
