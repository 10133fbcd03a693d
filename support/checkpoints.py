"""Checkpoints: what they hold, the newest and the one before, and their two formats.

After the .npz or .pt file that NumPy or PyTorch writes, and reads with this after it, stands the
SHA-256 of all its bytes.
"""

import hashlib
import io
import json
import sys
from contextlib import suppress
from copy import copy
from dataclasses import asdict, dataclass, replace

from support.errors import Diverged, RunError
from support.files import arrays_in, in_one_line, write_whole

import numpy as np

SEAL_LENGTH = 64  # hexadecimal digits


@dataclass
class Position:
    """Where training is: the epoch, the steps done in it, and the sums over these.

    has_means: whether the history has means over the steps as an epoch's training figures.
    """

    epoch: int = 1
    step: int = 0
    num_seen: int = 0  # images
    num_correct: int = 0  # of these
    loss_sum: float = 0.0  # over these
    last_loss: float | None = None  # of a step
    lr: float = 0.0  # of the last step
    seconds: float = 0.0
    has_means: bool = False

    def add(self, loss, num_images, num_correct, lr):
        """Count a step; loss: the mean over its images."""
        self.num_seen += num_images
        self.num_correct += num_correct
        self.loss_sum += loss * num_images
        self.last_loss, self.lr = loss, lr

    def next_epoch(self, has_means):
        """Before the first step of the next epoch."""
        last = {"last_loss": self.last_loss, "lr": self.lr}
        return Position(epoch=self.epoch + 1, has_means=has_means, **last)

    def __str__(self):
        return (
            f"lr {self.lr:g}, training loss {self.mean_loss:.4f}, accuracy {self.accuracy:.2%}, "
            f"{self.seconds:.1f} s"
        )

    @property
    def num_begun(self):
        """Epochs."""
        return self.epoch if self.step else self.epoch - 1

    @property
    def mean_loss(self):
        return self.loss_sum / self.num_seen

    @property
    def accuracy(self):
        return self.num_correct / self.num_seen


@dataclass
class Snapshot:
    """A copy of all that a checkpoint holds, at one moment: training may go on meanwhile."""

    state: dict  # of arrays or tensors, nested where PyTorch nests them
    position: Position
    history: list


class Checkpoints:
    """The newest checkpoint in a folder, and the one before.

    hold_arrays or hold_torch says what they hold. format: Arrays or Tensors, None before that.
    """

    def __init__(self, folder):
        self.folder = folder
        self.format = None
        self._is_newest_whole = True

    def hold_arrays(self, params):
        """A dict of NumPy arrays, or an object with arrays(), which returns it, and load(dict)."""
        if not isinstance(params, dict):
            self.format, self._state, self._load = Arrays, params.arrays, params.load
            return

        def load(saved):
            theirs = {name: array.shape for name, array in saved.items()}
            ours = {name: array.shape for name, array in params.items()}
            if theirs != ours:
                raise RunError(f"expected {ours}, got {theirs}")
            for name, array in params.items():
                array[...] = saved[name]

        self.format, self._state, self._load = Arrays, lambda: params, load

    def hold_torch(self, parts):
        """A dict of objects with state_dict and load_state_dict: models, optimizers ..."""

        def load(saved):
            try:
                for name, part in parts.items():
                    part.load_state_dict(saved[name])
            except Exception as error:
                raise RunError(in_one_line(error)) from error

        def state():
            return {name: part.state_dict() for name, part in parts.items()}

        self.format, self._state, self._load = Tensors, state, load

    def restore(self):
        """Set all that they hold to the newest whole one; its (position, history), or None if there
        is no checkpoint.

        Raises: RunError if there are checkpoints and none is whole, or of this network, or if there
        was one, since an epoch was finished.
        """
        newest, previous = self._paths()
        problems = []
        for path in (newest, previous):
            try:
                saved, notes = self.format.decode(unsealed(path.read_bytes()))
                position, history = Position(**notes["position"]), notes["history"]
            except FileNotFoundError:
                continue
            except Exception as error:  # whatever it is, it cannot be gone on from
                what = "cannot be read" if isinstance(error, OSError) else "is damaged"
                problems.append(f"{path} {what}: {in_one_line(error)}")
                if path == newest:
                    self._is_newest_whole = False
                continue
            try:
                self._load(saved)
            except ValueError as error:
                raise RunError(f"{path} is of another network: {error}") from error
            if problems:
                print(f"warning: {problems[0]}; going on from {path}", file=sys.stderr)
            return position, history
        if (self.folder / "history.csv").exists() and not problems:
            problems.append(f"{newest} is not there any more")
        if problems:
            raise RunError(
                f"{'; '.join(problems)}; without --resume a new run begins, and this one is kept"
            )
        return None

    def snapshot(self, position, history):
        return Snapshot(copied(self._state()), replace(position), list(history))

    def save(self, snapshot):
        """Save it as the newest; the one before is kept, unless it could not be read.

        Raises: Diverged, and leaves the files alone, if an array is not finite.
        """
        at, newest, previous = snapshot.position, *self._paths()
        for name, array in _leaves(snapshot.state):
            if not self.format.is_finite(array):
                raise self.diverged(f"{name} is not finite any more", at, at.step, at.lr)
        notes = {"position": asdict(at), "history": snapshot.history}
        content = sealed(self.format.encode(snapshot.state, json.dumps(notes)))
        write_whole(newest, content, keep=previous if self._is_newest_whole else None)
        self._is_newest_whole = True

    def diverged(self, what, at, step, lr, more=""):
        """The error that says what happened, where, and what helps."""
        # only the gradients of arrays are written by hand
        check = ", or check the gradients: python3 check_grads.py" * (self.format is Arrays)
        return Diverged(
            f"{what} in epoch {at.epoch}, step {step}, at learning rate {lr:g}{more}; "
            f"try a smaller --lr-scale{check}"
        )

    def forget_previous(self):
        with suppress(OSError):
            self._paths()[1].unlink()

    def _paths(self):
        suffix = (self.format or Arrays).suffix
        return self.folder / f"checkpoint{suffix}", self.folder / f"checkpoint.previous{suffix}"


class Arrays:
    """Checkpoints of NumPy arrays: .npz, with the notes, a text, among them."""

    suffix = ".npz"

    @staticmethod
    def is_finite(array):
        return np.isfinite(array).all()

    @staticmethod
    def encode(state, notes):
        buffer = io.BytesIO()
        arrays = {f"param:{name}": array for name, array in state.items()}
        np.savez(buffer, notes=np.array(notes), **arrays)
        return buffer.getvalue()

    @staticmethod
    def decode(content):
        saved = arrays_in(io.BytesIO(content))
        notes = json.loads(str(saved.pop("notes")))
        return {name.removeprefix("param:"): array for name, array in saved.items()}, notes


class Tensors:
    """Checkpoints of PyTorch's state_dicts: .pt, with the notes, a text, beside them."""

    suffix = ".pt"

    @staticmethod
    def is_finite(tensor):
        return bool(tensor.isfinite().all())

    @staticmethod
    def encode(state, notes):
        import torch

        buffer = io.BytesIO()
        torch.save({"notes": notes, "state": state}, buffer)
        return buffer.getvalue()

    @staticmethod
    def decode(content):
        import torch

        saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return saved["state"], json.loads(saved["notes"])


def sealed(content):
    """The content of a file with its checksum after it."""
    return content + _checksum(content)


def unsealed(content):
    """The content alone. Raises: ValueError if its checksum is wrong."""
    content, seal = content[:-SEAL_LENGTH], content[-SEAL_LENGTH:]
    if seal != _checksum(content):
        raise ValueError("its checksum is wrong, or older scripts wrote it")
    return content


def _checksum(content):
    return hashlib.sha256(content).hexdigest().encode()


def _leaves(state, path=""):
    """(path, array) for all arrays and tensors in nested dicts and lists."""
    if isinstance(state, dict | list | tuple):
        pairs = state.items() if isinstance(state, dict) else enumerate(state)
        for name, value in pairs:
            yield from _leaves(value, f"{path}.{name}" if path else str(name))
    elif hasattr(state, "dtype"):
        yield path, state


def copied(state):
    """The same with copies of all arrays and tensors, these in the processor's memory: to write
    them asks nothing of a GPU that is training.
    """
    if isinstance(state, dict):
        result = copy(state)  # PyTorch's dicts have attributes, too
        result.update((name, copied(value)) for name, value in state.items())
        return result
    if isinstance(state, list | tuple):
        return type(state)(map(copied, state))
    if hasattr(state, "detach"):
        return state.detach().to("cpu", copy=True)
    return state.copy() if hasattr(state, "dtype") else state
