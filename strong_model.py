"""A stronger network for CIFAR-10, and the tricks that train it fast: each an option of its own.

    python3 pytorch_cifar.py --model strong
    python3 pytorch_cifar.py --model strong --no-muon       # without one of the tricks
    python3 pytorch_cifar.py --model strong --size large    # a larger one, for a GPU
    python3 pytorch_cifar.py --model strong --help          # all of them

    whiten      24 filters of 2x2 that make neighbouring pixels uncorrelated, gelu
    block 1     conv 64, maxpool 2, normalise, gelu, conv 64, normalise, gelu
    block 2     the same with 256 filters
    block 3     the same with 256 filters
    head        maximum over the image, fc 10

The other convolutions are 3x3, images become smaller early, and there is one fully connected layer:
arithmetic goes where it helps. Blocks of the large size have more filters, and a third convolution
with a shortcut around it and the second. The form of both networks, whitening, the mirroring by
turns and the smoothed labels are those of Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU,
2024.
"""

from dataclasses import dataclass
from itertools import pairwise

from support.options import one_option, option, other_default

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import hard_images
import torch_training
from muon import Muon

# filters of the blocks, and whether these have a third convolution and a shortcut
SIZES = {
    "small": ((64, 128, 256), False),
    "medium": ((64, 256, 256), False),
    "large": ((128, 384, 512), True),
}
WHITENING_SIZE = 2  # pixels of the first filters' sides
WHITENING_IMAGES = 2_000  # from which they are computed
UPSAMPLED = 48  # pixels of an image's sides
WHOLE = 0.25  # share of the epochs that leave out no image
WARM_UP = 0.1  # share of the steps in which the learning rates rise
ADAM_RATE = 0.005  # largest one, of everything that is not a filter
SGD_RATE = 1.5  # largest one, of the filters without Muon
# (rows, columns): weight in the mean
VIEW_SHIFTS = {(0, 0): 0.5, (-1, -1): 0.25, (1, 1): 0.25}


@dataclass(kw_only=True)
class Config(torch_training.CifarConfig):
    model: str = torch_training.model_option("strong")
    epochs: int = option(9, "passes over the training images", minimum=1, maximum=100_000)
    batch_size: int = option(500, "images in a step", minimum=1, maximum=60_000)
    lr: float = option(
        0.12, "largest learning rate of the filters, for Muon", minimum=0, maximum=100
    )
    size: str = option(
        "medium",
        "of the network; small: 55 %% of the arithmetic; large: for a GPU, other defaults",
        choices=tuple(SIZES),
    )
    skip: float = option(
        1 / 3,
        "share of the images, the easiest ones, that an epoch leaves out after the first quarter",
        minimum=0,
        maximum=0.5,
    )
    whiten: bool = option(True, "begin with filters that make the pixels uncorrelated")
    muon: bool = option(True, "move the filters by Muon; else by SGD")
    mirror: bool = option(True, "mirror each image every other time")
    shift: int = option(
        2, "pixels that images are shifted by at most; 0: none", minimum=0, maximum=31
    )
    cutout: int = option(
        0, "side of a square that is cut out of images; 0: none", minimum=0, maximum=63
    )
    label_smoothing: float = option(
        0.2, "share of the label that all classes get alike", minimum=0, maximum=1
    )
    upsample: bool = option(False, f"enlarge the images to {UPSAMPLED} x {UPSAMPLED} pixels")
    channels_last: bool = option(True, "keep the channels of a pixel together in memory")


@dataclass(kw_only=True)
class LargeConfig(Config):
    """The defaults of the large network, which knows its images by heart sooner."""

    size: str = other_default(Config, "size", "large")
    epochs: int = other_default(Config, "epochs", 36)
    batch_size: int = other_default(Config, "batch_size", 1000)
    skip: float = other_default(Config, "skip", 0.0)
    shift: int = other_default(Config, "shift", 4)
    cutout: int = other_default(Config, "cutout", 12)
    all_images: bool = other_default(Config, "all_images", True)


def config_class(argv):
    """The options, with their defaults, of a command line (None: sys.argv)."""
    size = one_option(argv, "size", "medium", "pytorch_cifar")
    return LargeConfig if size == "large" else Config


# --- the network --------------------------------------------------------------------------------


class Block(nn.Module):
    """conv, maxpool 2, normalise, gelu, conv, normalise, gelu: half the size, more channels.

    deep: before the last gelu conv and normalise once more, and add what the first gelu gave.
    """

    def __init__(self, num_inputs, num_filters, deep=False):
        super().__init__()
        self.deep = deep
        self.conv1 = nn.Conv2d(num_inputs, num_filters, kernel_size=3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(num_filters)
        self.conv2 = nn.Conv2d(num_filters, num_filters, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(num_filters)
        if deep:
            self.conv3 = nn.Conv2d(num_filters, num_filters, kernel_size=3, padding=1, bias=False)
            self.norm3 = nn.BatchNorm2d(num_filters)

    def forward(self, x):
        h = functional.max_pool2d(self.conv1(x), 2)
        first = functional.gelu(self.norm1(h))
        h = functional.gelu(self.norm2(self.conv2(first)))
        return functional.gelu(first + self.norm3(self.conv3(h))) if self.deep else h


class StrongModel(nn.Module):
    """The network of the head of this file. Shapes: (N, 3, H, W) -> (N, 10) of float32.

    rng: a NumPy generator for the initial weights. bfloat16: convolutions and products in that
    type; upsample: enlarge the images first; layout: how images and filters lie in memory; size:
    one of SIZES.
    """

    def __init__(
        self, rng, bfloat16=False, upsample=False, layout=torch.channels_last, size="medium"
    ):
        super().__init__()
        self.bfloat16, self.upsample, self.layout = bfloat16, upsample, layout
        num_filters = 2 * 3 * WHITENING_SIZE**2
        self.whiten = nn.Conv2d(3, num_filters, WHITENING_SIZE)
        widths, deep = SIZES[size]
        pairs = pairwise([num_filters, *widths])
        self.blocks = nn.Sequential(*(Block(*pair, deep) for pair in pairs))
        self.head = nn.Linear(widths[-1], 10)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                torch_training.he_normal_(layer, rng)
        nn.init.zeros_(self.head.weight)  # so that at first no class is thought more likely
        self.to(memory_format=layout)

    def filters(self):
        """The weights of the blocks' convolutions."""
        return [parameter for parameter in self.blocks.parameters() if parameter.ndim == 4]

    def forward(self, x):
        x = x.contiguous(memory_format=self.layout)
        if self.upsample:
            x = functional.interpolate(x, size=UPSAMPLED, mode="bilinear")
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bfloat16):
            h = functional.gelu(self.whiten(x))
            h = self.blocks(h)
            return self.head(h.amax(dim=(2, 3))).float()


@torch.no_grad()
def whiten_(layer, images):
    """Filters of a convolution whose outputs are uncorrelated and of variance 1, each and its
    negative, for an activation that keeps one sign.

    A patch p of k x k pixels has the covariance matrix V D V^T; the filters are the rows of
    D^(-1/2) V^T and -D^(-1/2) V^T. Shape: images (N, C, H, W).
    """
    k = layer.kernel_size[0]
    patches = functional.unfold(images[:WHITENING_IMAGES].float().cpu(), k)  # (N, C*k*k, places)
    covariance = patches.movedim(1, 0).flatten(start_dim=1).cov(correction=0)
    variances, directions = torch.linalg.eigh(covariance.double())
    filters = (directions / (variances + 5e-4).sqrt()).T  # rows; 5e-4: no direction is all noise
    layer.weight.copy_(torch.cat([filters, -filters]).view_as(layer.weight))
    layer.bias.zero_()


# --- jitter -------------------------------------------------------------------------------------


def jittered(images, turned, rng, config):
    """Images mirrored, shifted, and with a square cut out, as config says; each by itself.

    What comes in at an edge is a reflection. The square is filled with the mean colour, and may
    reach over an edge. Shapes: images (N, C, H, W); turned (N,) of booleans, whether to mirror.
    rng: a NumPy generator.
    """
    N, _, H, W = images.shape
    device = images.device
    n = torch.arange(N, device=device)[:, None, None]
    rows = torch.arange(H, device=device).expand(N, H)
    columns = torch.arange(W, device=device).expand(N, W)
    if config.mirror:
        turned = torch_training.sent(turned, device)
        columns = torch.where(turned[:, None], W - 1 - columns, columns)
    if config.shift:
        offsets = rng.integers(-config.shift, config.shift + 1, size=(2, N, 1))
        offsets = torch_training.sent(offsets, device)
        rows, columns = _reflected(rows + offsets[0], H), _reflected(columns + offsets[1], W)
    if config.mirror or config.shift:
        images = images[n, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if config.cutout:
        half, places = config.cutout // 2, torch.arange(max(H, W), device=device)
        cut = []
        for extent in (H, W):
            first = rng.integers(-half, extent - half, size=(N, 1))
            inside = places[:extent] - torch_training.sent(first, device)
            cut.append((inside >= 0) & (inside < config.cutout))
        square = cut[0][:, None, :, None] & cut[1][:, None, None, :]
        images = images.masked_fill(square, 0)  # the mean: images are normalised
    return images


def _reflected(places, size):
    """Places outside of 0 ... size - 1, mirrored at the first and last of them."""
    places = places.abs()
    return torch.where(places >= size, 2 * (size - 1) - places, places)


# --- how it is trained --------------------------------------------------------------------------


class Recipe:
    """What the training loop of pytorch_cifar asks for."""

    view_shifts = VIEW_SHIFTS
    num_evaluated = 5_000  # training images after each epoch

    def __init__(self, config, train_x, device):
        self.config = config
        self.turned_first = np.random.default_rng(config.seed).random(len(train_x)) < 0.5
        self.bfloat16 = config.bfloat16 and torch_training.has_fast_bfloat16(device)
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        rng = np.random.default_rng(config.seed)
        model = StrongModel(rng, self.bfloat16, config.upsample, layout, config.size)
        num_whole = max(1, round(WHOLE * config.epochs))
        self.selection = hard_images.Selection(len(train_x), config.skip, num_whole)
        if config.whiten:
            whiten_(model.whiten, torch.from_numpy(train_x[:WHITENING_IMAGES]))
        self.model = model.to(device)
        self.first_layer = model.whiten
        filters = self.model.filters()
        others = [p for p in self.model.parameters() if all(p is not f for f in filters)]
        if config.muon:
            by_rows = Muon(filters, lr=config.lr, bfloat16=self.bfloat16)
        else:
            by_rows = torch.optim.SGD(
                filters, lr=SGD_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4
            )
        self.optimizers = {
            "optimizer": by_rows,
            "optimizer_of_others": torch.optim.Adam(others, lr=ADAM_RATE),
        }
        self.peaks = [config.lr if config.muon else SGD_RATE, ADAM_RATE]

    def set_learning_rate(self, progress):
        """Up, then linearly down to 0; returns the one of the filters.

        progress: the share of all training that is done.
        """
        factor = min(progress / WARM_UP, (1 - progress) / (1 - WARM_UP)) * self.config.lr_scale
        for optimizer, peak in zip(self.optimizers.values(), self.peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
        return self.peaks[0] * factor

    def jittered(self, images, indices, times_seen, rng):
        """The network sees each image either way round by turns, and hardly ever twice the same."""
        turned = self.turned_first[indices] ^ (times_seen % 2 == 1)
        return jittered(images, turned, rng, self.config)

    def training_loss(self, loss_function):
        """The loss to go down along, where loss_function is the one to report."""
        if self.config.label_smoothing == 0:
            return loss_function
        return nn.CrossEntropyLoss(label_smoothing=self.config.label_smoothing)

    def finished(self, model):
        """The network that a trained model leaves: the same."""
        return model
