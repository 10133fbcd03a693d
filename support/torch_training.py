"""What the PyTorch scripts share: their options, the device, predictions, evaluation, logging."""

import io
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from support import files, metrics
from support.errors import RunError
from support.options import CommonConfig, option
from support.run import Run

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

EVALUATION_BATCH = 500  # images at a time where nothing is kept for a backward pass
AVERAGE_DECAY = 0.99  # of the moving average of the weights, a step


@dataclass(kw_only=True)
class Config(CommonConfig):
    device: str = option(
        "auto", "auto: CUDA, else MPS, else the CPU", choices=("auto", "cpu", "cuda", "mps")
    )
    tensorboard: bool = option(False, "log for TensorBoard, too, into tensorboard/")


def prepare(config):
    """Set and print what the whole run depends on; returns the device.

    Raises: RunError if a device or a package that was asked for is absent, or if torchrun
    started this process.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise RunError(
            "only pytorch_cifar.py --model strong runs on several devices; start without torchrun"
        )
    return set_up(config, pick_device(config.device), config.threads)


def set_up(config, device, threads, processes=""):
    """The same on a device that is known; processes: how many, for the line that is printed."""
    if config.tensorboard and find_spec("tensorboard") is None:
        raise RunError("--tensorboard needs: python3 -m pip install tensorboard")
    torch.set_num_threads(threads)
    torch.manual_seed(config.seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False  # else float32 is rounded to 10 bits where CUDA likes
    print(f"device {device}, {processes}{threads} thread(s)")
    return device


def pick_device(name):
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device, there in present.items() if there)
    elif not present[name]:
        raise RunError(f"--device {name}: this machine, or its PyTorch, has none")
    return torch.device(name)


def has_fast_bfloat16(device):
    """Whether the device multiplies in bfloat16 itself."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        with suppress(OSError):
            flags = Path("/proc/cpuinfo").read_text().split()
            return "amx_bf16" in flags or "avx512_bf16" in flags
    return False


def on_device(images, labels, device):
    """NumPy images (N, C, H, W) and labels (N,) as tensors, the images with channels last."""
    images = torch.from_numpy(images).to(device, memory_format=torch.channels_last)
    return images, torch.from_numpy(labels).to(device)


def to_device(array, device):
    """A NumPy array as a tensor on the device. CUDA copies it before it does anything else, so a
    GPU that has much to do is not waited for; other devices might find the array gone.
    """
    return torch.from_numpy(array).to(device, non_blocking=device.type == "cuda")


def he_normal_(layer, rng):
    """Weights of variance 2 / fan_in, from a NumPy generator, as in layers.py; a bias of zeros.

    Source: He et al., Delving Deep into Rectifiers, 2015, equation 10.
    """
    fan_in = layer.weight[0].numel()
    values = np.sqrt(2 / fan_in) * rng.standard_normal((len(layer.weight), fan_in))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(values).reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.zero_()


def first_filters(layer):
    """A copy of a convolution's filters. Shape: (F, C, k, k)."""
    return layer.weight.detach().cpu().float().numpy().copy()


@torch.inference_mode()
def predict(model, images, each=map):
    """The outputs of the model for all images, in evaluation mode. Shape: (N, K), on the CPU.

    each: applies a function to the parts of the images, in their order.
    """
    was_training = model.training
    model.eval()
    logits = each(lambda part: model(part).float().cpu(), images.split(EVALUATION_BATCH))
    logits = torch.cat(list(logits))
    model.train(was_training)
    return logits


class Views(nn.Module):
    """Test-time augmentation: a model's mean output for several views of an image, shifted by some
    pixels, each view also mirrored.

    shifts: {(rows, columns): weight in the mean}; what comes in at an edge is a reflection.
    Shapes: (N, C, H, W) -> (N, K), as the model.
    """

    def __init__(self, model, shifts):
        super().__init__()
        self.model, self.shifts = model, shifts

    def forward(self, x):
        H, W = x.shape[2:]
        most = max(abs(shift) for pair in self.shifts for shift in pair)
        padded = functional.pad(x, (most,) * 4, mode="reflect")
        total = 0
        for (rows, columns), weight in self.shifts.items():
            view = padded[:, :, most + rows : most + rows + H, most + columns : most + columns + W]
            view = view.contiguous(memory_format=torch.channels_last)
            total = total + weight / 2 * (self.model(view) + self.model(view.flip(3)))
        return total


class Compiled:
    """A model, compiled when it is first called; where that fails, with a warning, as it is."""

    def __init__(self, model, device):
        self.model = model
        # a graph for each batch size alone, so that a resumed run has those of a whole one
        self._function = torch.compile(model, dynamic=False)
        usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
        compiler = os.environ.get("CXX", "").strip() or usual
        # PyTorch looks for it as late as in the first backward pass
        if device.type == "cpu" and not any(map(shutil.which, (compiler, compiler.split()[0]))):
            self._leave(f"there is no C++ compiler {compiler}; CXX may name another")

    def __call__(self, x):
        try:
            return self._function(x)
        except Exception as error:
            if self._function is self.model:
                raise
            self._leave(" ".join(f"{type(error).__name__}: {error}".split())[:200])
            return self.model(x)

    def _leave(self, reason):
        print(f"warning: --compile: going on uncompiled: {reason}", file=sys.stderr, flush=True)
        self._function = self.model


class Evaluation(tuple):
    """(loss, accuracy), and with them the confusion matrix."""

    def __new__(cls, loss, accuracy, confusion):
        pair = super().__new__(cls, (loss, accuracy))
        pair.loss, pair.accuracy, pair.confusion = loss, accuracy, confusion
        return pair


def evaluate(model, images, labels, title, loss_function=functional.cross_entropy, each=map):
    """Print and return how well the model does: (loss, accuracy), see Evaluation.

    Shapes: images (N, C, H, W), labels (N,). loss_function(logits, labels): a mean over the images;
    each: see predict.
    """
    logits = predict(model, images, each)
    labels = labels.cpu()
    loss = loss_function(logits, labels).item()
    predicted = logits.numpy().argmax(axis=1)
    confusion = metrics.confusion_matrix(labels.numpy(), predicted, logits.shape[1])
    accuracy = metrics.accuracy(confusion)
    print(f"{title}: loss {loss:.4f}, accuracy {accuracy:.2%}", flush=True)
    return Evaluation(loss, accuracy, confusion)


class Average(AveragedModel):
    """The exponential moving average of a model's parameters and statistics, updated at each step.

    It begins with a smaller decay, or a short run would end with much of its first weights in it.
    """

    @torch.no_grad()
    def update_parameters(self, model):
        """PyTorch's own would copy n_averaged to a GPU, which would be waited for, at each step."""
        n = int(self.n_averaged)  # on the CPU, wherever the model is
        decay = min(AVERAGE_DECAY, (n + 1) / (n + 10)) if n else 0  # the first time, a copy
        ours, theirs = self.module.state_dict(), model.state_dict()
        names = [name for name, value in ours.items() if value.is_floating_point()]
        averages, values = ([state[name] for name in names] for state in (ours, theirs))
        get_ema_multi_avg_fn(decay)(averages, values, None)
        for name in ours.keys() - names:  # counts of batches
            ours[name].copy_(theirs[name])
        self.n_averaged += 1


def set_learning_rate(optimizer, lr):
    for group in optimizer.param_groups:
        group["lr"] = lr


def save_model(path, model):
    """The parameters as a .pt file for torch.load(path, weights_only=True), whole or not at all."""
    buffer = io.BytesIO()
    torch.save({name: tensor.cpu() for name, tensor in model.state_dict().items()}, buffer)
    files.write_whole(path, buffer.getvalue())
