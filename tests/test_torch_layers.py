"""What a PyTorch run leaves of its network for the report page."""

from support import torch_layers
from support.page.network import worked
from support.page.network.networks import LAB_MNIST, UnusableError, read_network
from support.read_runs import Record

import numpy as np
import pytest
import torch
from test_network_export import NAMES, Images
from torch import nn
from torch.nn import functional

import pytorch_cifar
import pytorch_mnist

RNG = np.random.default_rng


def written(folder, model, shape):
    """The network as the page reads it."""
    folder.mkdir()
    torch_layers.write(folder, model, Images(shape))
    return read_network(Record(folder), "model.npz")


class Functional(nn.Module):
    """A student's, with functions where modules would do, and other sizes than the lab's."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, stride=2, padding="valid")
        self.second = nn.Conv2d(4, 6, 3, padding="same", bias=False)
        self.last = nn.Linear(54, 10)

    def forward(self, x):
        x = functional.relu(self.first(x.float()), inplace=True)
        x = functional.max_pool2d(torch.relu(self.second(x)), kernel_size=(3, 3), stride=1)
        x = functional.dropout(x, training=self.training)
        return self.last(x.reshape(len(x), -1))


def modules():
    parts = [nn.Conv2d(2, 4, 3, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*parts, nn.Dropout(), nn.Linear(16, 10))


MODELS = {
    "cifar": (lambda: pytorch_cifar.ConvolutionalModel(RNG(0)), (3, 32, 32)),
    "mnist": (lambda: pytorch_mnist.ConvolutionalModel(RNG(0)), (1, 28, 28)),
    "functional": (Functional, (2, 11, 11)),
    "modules": (modules, (2, 11, 11)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_page_computes_what_the_model_computes(kind, tmp_path):
    make, shape = MODELS[kind]
    model = make()
    model.train()
    network = written(tmp_path / "run", model, shape)
    assert model.training
    image = RNG(1).integers(256, size=shape, dtype=np.uint8)
    out = worked.forward(network, image)[-1]
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))  # as the page has it
        expected = model(torch.from_numpy(image[None] / np.float32(255) - np.float32(0.25)))
    np.testing.assert_allclose(out, expected[0].float().numpy(), atol=1e-4)
    assert network.classes == NAMES


def test_the_labs_network_is_the_same_in_both_halves(tmp_path):
    network = written(tmp_path / "run", pytorch_mnist.ConvolutionalModel(RNG(0)), (1, 28, 28))

    def sizes(layers):
        return [{k: v for k, v in layer.items() if k in ("kind", "F", "k", "pad", "stride", "size")}
                for layer in layers]  # fmt: skip

    assert sizes(network.layers) == sizes(LAB_MNIST)


def test_what_multiplies_in_bfloat16_is_shown_as_it_is_stored(tmp_path):
    model = pytorch_cifar.ConvolutionalModel(RNG(0), bfloat16=True)
    network = written(tmp_path / "run", model, (3, 32, 32))
    assert len(network.layers) == 12
    assert network.parameters.size == pytorch_cifar.NUM_PARAMETERS


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(32, 10)

    def forward(self, x):
        return self.last((x + self.conv(x)).flatten(1))


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(64, 10)

    def forward(self, x):
        return self.last(torch.cat([self.conv(x), x], dim=1).flatten(1))


def with_layer(layer):
    return nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(10))


OTHERS = {
    "residual": (Residual, "add, not in a row"),
    "branches": (Branches, "flatten, not in a row"),
    "batch norm": (lambda: with_layer(nn.BatchNorm2d(2)), "batch_norm"),
    "sigmoid": (lambda: with_layer(nn.Sigmoid()), "sigmoid"),
    "mean pooling": (lambda: with_layer(nn.AvgPool2d(2)), "avg_pool2d"),
    "dilated": (lambda: with_layer(nn.Conv2d(2, 2, 2, dilation=2)), "conv2d"),
    "in groups": (lambda: with_layer(nn.Conv2d(2, 2, 3, groups=2)), "conv2d"),
    "not square": (lambda: with_layer(nn.Conv2d(2, 2, (3, 1))), "conv2d"),
    "reflecting": (lambda: with_layer(nn.Conv2d(2, 2, 3, 1, 1, padding_mode="reflect")), "pad"),
    "padded pool": (lambda: with_layer(nn.MaxPool2d(2, padding=1)), "max_pool2d"),
    "places": (lambda: with_layer(nn.MaxPool2d(2, dilation=2)), "max_pool2d"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_network_of_other_layers_is_not_shown_and_says_which(kind, tmp_path):
    make, name = OTHERS[kind]
    model = make()
    model(torch.ones(2, 2, 4, 4))  # which a lazy layer needs
    with pytest.raises(UnusableError, match=f"a layer of the kind {name}"):
        written(tmp_path / "run", model, (2, 4, 4))


def test_what_a_model_does_wrong_then_does_not_end_the_run(tmp_path, capsys):
    class Refusing(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(3, 10)

        def forward(self, x):
            raise RuntimeError("a batch of one image is refused")

    model = Refusing()
    model.train()
    torch_layers.write(tmp_path, model, Images((2, 8, 8)))
    said = capsys.readouterr().err
    assert said == "warning: the page will not show this network: a batch of one image is refused\n"
    assert not (tmp_path / "page").exists()
    assert model.training
