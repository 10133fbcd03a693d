"""The formats of checkpoints: arrays or tensors, with notes as JSON and a checksum of both."""

import hashlib
import io
import json
import zipfile

import numpy as np

DAMAGES = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile)


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
        # np.load leaves a damaged file open; this does not
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            saved = {name: arrays[name] for name in arrays.files}
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


def leaves(state, path=""):
    """(path, array) for all arrays and tensors in nested dicts and lists."""
    if isinstance(state, dict | list | tuple):
        pairs = state.items() if isinstance(state, dict) else enumerate(state)
        for name, value in pairs:
            yield from leaves(value, f"{path}.{name}" if path else str(name))
    elif hasattr(state, "dtype"):
        yield path, state


def _digest(state, notes):
    """SHA-256 of all arrays and of the notes."""
    digest = hashlib.sha256(json.dumps(notes, sort_keys=True).encode())
    for path, array in leaves(state):
        if hasattr(array, "detach"):
            array = array.detach().cpu().float().numpy()
        digest.update(f"{path} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _checked(state, notes):
    if notes.pop("sha256") != _digest(state, notes):
        raise ValueError("its checksum is wrong")
    return state, notes
