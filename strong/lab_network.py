"""The network of Task 4, with batch normalization for the training that is folded away at the end.

The arithmetic is that of ConvolutionalModel in pytorch_cifar.py, which is not imported here:
folded, the parameters have the same names and shapes.
"""

from support import torch_training

import numpy as np
import torch
from torch import nn
from torch.nn import functional

EPSILON = 1e-5  # added to the variances of batch normalization


class LabModel(nn.Module):
    """conv 16 5x5, relu, maxpool 3/2, conv 32 5x5, relu, maxpool 3/2, fc 256, relu, fc 128, relu,
    fc 10. Shapes: (N, 3, 32, 32) -> (N, 10) of float32.
    """

    def __init__(self, rng, bfloat16=False):
        super().__init__()
        self.bfloat16 = bfloat16
        self.conv1 = nn.Conv2d(3, 16, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=5, padding=2)
        self.fc1 = nn.Linear(32 * 7 * 7, 256)
        self.fc2 = nn.Linear(256, 128)
        self.fc_logits = nn.Linear(128, 10)
        for layer in (self.conv1, self.conv2, self.fc1, self.fc2, self.fc_logits):
            torch_training.he_normal_(layer, rng)

    def forward(self, x):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bfloat16):
            h = functional.max_pool2d(self.conv1(x), 3, stride=2).relu()
            h = functional.max_pool2d(self.conv2(h), 3, stride=2).relu()
            h = self.fc1(h.flatten(start_dim=1)).relu()
            h = self.fc2(h).relu()
            return self.fc_logits(h).float()


class NormalizedModel(LabModel):
    """The same network with batch normalization of its first three layers, for the training only.

    It has no parameters more: the bias of a layer is added after its normalization, and any scale
    is left to the next layer. In evaluation normalization but scales and shifts, so that folded()
    can do without. A last batch of one image, whose outputs of fc1 have no variance, is normalized
    there as in evaluation.

    Source: Ioffe and Szegedy, Batch Normalization, 2015.
    """

    NORMALIZED = "conv1", "conv2", "fc1"

    def __init__(self, rng, bfloat16=False):
        super().__init__(rng, bfloat16)
        for name in self.NORMALIZED:
            layer = getattr(self, name)
            layer.register_buffer("mean", torch.zeros_like(layer.bias))
            layer.register_buffer("variance", torch.ones_like(layer.bias))

    def forward(self, x):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bfloat16):
            h = functional.conv2d(x, self.conv1.weight, padding=2)
            h = self.normalized(functional.max_pool2d(h, 3, stride=2), self.conv1).relu()
            h = functional.conv2d(h, self.conv2.weight, padding=2)
            h = self.normalized(functional.max_pool2d(h, 3, stride=2), self.conv2).relu()
            h = functional.linear(h.flatten(start_dim=1), self.fc1.weight)
            h = self.normalized(h, self.fc1).relu()
            h = self.fc2(h).relu()
            return self.fc_logits(h).float()

    def normalized(self, h, layer):
        scale = torch.ones_like(layer.bias)
        has_variance = h.numel() > h.shape[1]  # not so one image in a fully connected layer
        training = self.training and has_variance
        return functional.batch_norm(
            h, layer.mean, layer.variance, scale, layer.bias, training, eps=EPSILON
        )

    @torch.no_grad()
    def folded(self):
        """The LabModel with the same outputs as this one in evaluation."""
        state = {name: value.clone() for name, value in self.state_dict().items()}
        for layer in self.NORMALIZED:
            factor = (state.pop(f"{layer}.variance") + EPSILON).rsqrt()
            state[f"{layer}.weight"] *= factor.view(-1, *[1] * (state[f"{layer}.weight"].ndim - 1))
            state[f"{layer}.bias"] -= factor * state.pop(f"{layer}.mean")
        model = LabModel(np.random.default_rng(), self.bfloat16)
        model = model.to(factor.device, memory_format=torch.channels_last)
        model.load_state_dict(state)
        return model
