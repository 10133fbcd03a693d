"""Checkpoints: what they hold, the newest and the one before, and their two formats."""

import hashlib
import io
import json
import sys
import zipfile
from contextlib import suppress
from dataclasses import asdict, dataclass

from support.errors import RunError
from support.files import read_arrays, write_whole

import numpy as np

DAMAGES = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile)


@dataclass
class Position:
    """Where training is: the epoch, the steps done in it, and the sums over these."""

    epoch: int = 1
    step: int = 0
    num_seen: int = 0  # images
    num_correct: int = 0  # of these
    loss_sum: float = 0.0  # over these
    last_loss: float | None = None  # of a step
    lr: float = 0.0  # of the last step
    seconds: float = 0.0

    @property
    def mean_loss(self):
        return self.loss_sum / self.num_seen

    @property
    def accuracy(self):
        return self.num_correct / self.num_seen


class Checkpoints:
    """The newest checkpoint in a folder, and the one before.

    hold_arrays or hold_torch says what they hold. format: Arrays or Tensors, None before that.
    """

    def __init__(self, folder):
        self.folder = folder
        self.format = None

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
            except (KeyError, RuntimeError, ValueError) as error:
                raise RunError(" ".join(str(error).split())) from error

        def state():
            return {name: part.state_dict() for name, part in parts.items()}

        self.format, self._state, self._load = Tensors, state, load

    def restore(self):
        """Set all that they hold to the newest whole one; its (position, history), or None if there
        is no checkpoint.

        Raises: RunError if there are checkpoints and none is whole, or of this network.
        """
        problems = []
        for path in self._paths():
            if not path.exists():
                continue
            try:
                saved, notes = self.format.read(path)
                position = Position(**notes["position"])
            except DAMAGES as error:
                problems.append(f"{path} is damaged: {error}")
                continue
            try:
                self._load(saved)
            except ValueError as error:
                raise RunError(f"{path} is of another network: {error}") from error
            if problems:
                print(f"warning: {problems[0]}; going on from {path}", file=sys.stderr)
            return position, notes["history"]
        if problems:
            raise RunError("; ".join(problems))
        return None

    def name_not_finite(self):
        """The name of an array that is not finite any more, or None."""
        leaves = _leaves(self._state())
        return next((name for name, array in leaves if not self.format.is_finite(array)), None)

    def save(self, position, history):
        """Save a new one; the one before is kept."""
        newest, previous = self._paths()
        notes = {"position": asdict(position), "history": history}
        content = self.format.encode(self._state(), notes)
        with suppress(FileNotFoundError):
            newest.replace(previous)
        write_whole(newest, content)

    def forget_previous(self):
        with suppress(OSError):
            self._paths()[1].unlink()

    def _paths(self):
        suffix = (self.format or Arrays).suffix
        return self.folder / f"checkpoint{suffix}", self.folder / f"checkpoint.previous{suffix}"


class Arrays:
    """Checkpoints of NumPy arrays: .npz, with the notes and a checksum as JSON in it."""

    suffix = ".npz"

    @staticmethod
    def is_finite(array):
        return np.isfinite(array).all()

    @staticmethod
    def encode(state, notes):
        buffer = io.BytesIO()
        arrays = {f"param:{name}": array for name, array in state.items()}
        text = json.dumps({**notes, "sha256": _digest(state, notes)})
        np.savez(buffer, notes=np.array(text), **arrays)
        return buffer.getvalue()

    @staticmethod
    def read(path):
        saved = read_arrays(path)
        notes = json.loads(str(saved.pop("notes")))
        saved = {name.removeprefix("param:"): array for name, array in saved.items()}
        return _checked(saved, notes)


class Tensors:
    """Checkpoints of PyTorch's state_dicts: .pt, with the notes and a checksum as JSON in it."""

    suffix = ".pt"

    @staticmethod
    def is_finite(tensor):
        return bool(tensor.isfinite().all())

    @staticmethod
    def encode(state, notes):
        import torch

        buffer = io.BytesIO()
        text = json.dumps({**notes, "sha256": _digest(state, notes)})
        torch.save({"notes": text, "state": state}, buffer)
        return buffer.getvalue()

    @staticmethod
    def read(path):
        import pickle

        import torch

        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError(" ".join(str(error).split())[:200]) from error
        return _checked(content["state"], json.loads(content["notes"]))


def _leaves(state, path=""):
    """(path, array) for all arrays and tensors in nested dicts and lists."""
    if isinstance(state, dict | list | tuple):
        pairs = state.items() if isinstance(state, dict) else enumerate(state)
        for name, value in pairs:
            yield from _leaves(value, f"{path}.{name}" if path else str(name))
    elif hasattr(state, "dtype"):
        yield path, state


def _digest(state, notes):
    """SHA-256 of all arrays and of the notes."""
    digest = hashlib.sha256(json.dumps(notes, sort_keys=True).encode())
    for path, array in _leaves(state):
        if hasattr(array, "detach"):
            array = array.detach().cpu().float().numpy()
        digest.update(f"{path} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _checked(state, notes):
    if notes.pop("sha256") != _digest(state, notes):
        raise ValueError("its checksum is wrong")
    return state, notes
