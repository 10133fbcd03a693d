"""A network for CIFAR-10 with seven convolutions; the large size has ten.

    whiten      24 filters of 2x2 that make neighbouring pixels uncorrelated, gelu
    block 1     conv 64, maxpool 2, normalise, gelu, conv 64, normalise, gelu
    block 2     the same with 256 filters
    block 3     the same with 256 filters
    head        maximum over the image, fc 10

The other convolutions are 3x3, images become smaller early, and there is one fully connected layer:
arithmetic goes where it helps. Blocks of the large size have more filters, and a third convolution
with a shortcut around it and the second. The form of both networks, and whitening, are those of
Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024.
"""

from itertools import pairwise

from support import torch_training

import torch
from torch import nn
from torch.nn import functional

# filters of the blocks, and whether these have a third convolution and a shortcut
SIZES = {
    "small": ((64, 128, 256), False),
    "medium": ((64, 256, 256), False),
    "large": ((128, 384, 512), True),
}
WHITENING_SIZE = 2  # pixels of the first filters' sides
WHITENING_IMAGES = 2_000  # from which they are computed
UPSAMPLED = 48  # pixels of an image's sides


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
            # torchvision's v2.functional.resize is this call, and takes seconds to be imported
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
