"""When two values of a key are the same: numbers up to rounding, texts by their kind."""

import numpy as np

EXACT = 1e-9  # of the largest number in the array
SINGLE = 1e-4  # for what is computed in float32


def is_same(key, value, alternatives, is_single=False):
    """Whether a value is one of the alternatives; is_single: allow for float32."""
    return any(_is_one(key, value, other, is_single) for other in alternatives)


def _is_one(key, value, other, is_single):
    if isinstance(value, str) or isinstance(other, str):
        return isinstance(value, str) and isinstance(other, str) and _kind(value) == _kind(other)
    if value.shape != other.shape:
        return False
    return bool(np.all(differences(key, value, other, is_single) <= 1))


def _kind(text):
    return text.partition(":")[0]


def tolerance(key, is_single=False):
    return SINGLE if is_single or key.split("/")[1] == "float32" else EXACT


def differences(key, value, other, is_single=False):
    """How far apart two arrays of one shape are, element by element, in units of what is allowed;
    infinite where one is infinite or not a number and the other is not the same."""
    value, other = np.asarray(value, np.float64), np.asarray(other, np.float64)
    finite = np.isfinite(value) & np.isfinite(other)
    sizes = np.abs(other[np.isfinite(other)])
    allowed = tolerance(key, is_single) * max(np.max(sizes, initial=0.0), 1e-3)
    with np.errstate(invalid="ignore"):
        far = np.abs(value - other) / allowed
    same = (value == other) | (np.isnan(value) & np.isnan(other))
    return np.where(finite, far, np.where(same, 0.0, np.inf))
