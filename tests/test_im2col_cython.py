import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from im2col_cython import col2im_cython, im2col_cython

GEOMETRIES = st.fixed_dictionaries(
    {
        "shape": st.tuples(*[st.integers(1, n) for n in (4, 3, 8, 8)]),
        "field": st.tuples(st.integers(1, 5), st.integers(1, 5)),
        "padding": st.integers(0, 3),
        "stride": st.integers(1, 3),
        "dtype": st.sampled_from([np.float32, np.float64]),
    }
).filter(lambda g: all(g["shape"][i + 2] + 2 * g["padding"] >= g["field"][i] for i in (0, 1)))


def test_hand_computed_columns():
    x = np.arange(1.0, 10).reshape(1, 1, 3, 3)
    expected = [[1, 2, 4, 5], [2, 3, 5, 6], [4, 5, 7, 8], [5, 6, 8, 9]]
    assert np.array_equal(im2col_cython(x, 2, 2, 0, 1), expected)


def test_hand_computed_raising_counts_the_windows_over_each_pixel():
    raised = col2im_cython(np.ones((4, 4)), 1, 1, 3, 3, 2, 2, 0, 1)
    assert np.array_equal(raised[0, 0], [[1, 2, 1], [2, 4, 2], [1, 2, 1]])


@settings(deadline=None, max_examples=150)
@given(GEOMETRIES)
def test_im2col_equals_reference(g):
    x = np.random.default_rng(0).standard_normal(g["shape"]).astype(g["dtype"])
    cols = im2col_cython(x, *g["field"], g["padding"], g["stride"])
    assert cols.dtype == g["dtype"]
    assert np.array_equal(cols, reference.im2col(x, *g["field"], g["padding"], g["stride"]))


@settings(deadline=None, max_examples=150)
@given(GEOMETRIES)
def test_col2im_is_the_adjoint(g):
    """<im2col(x), c> = <x, col2im(c)> for all x and c defines the adjoint."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(g["shape"])
    cols = im2col_cython(x, *g["field"], g["padding"], g["stride"])
    c = rng.standard_normal(cols.shape).astype(g["dtype"])
    raised = col2im_cython(c, *g["shape"], *g["field"], g["padding"], g["stride"])
    assert raised.dtype == g["dtype"]
    assert raised.shape == g["shape"]
    # each pixel of raised is a sum of as many elements as a field has, at most
    rounding = g["field"][0] * g["field"][1] * np.finfo(g["dtype"]).eps
    bound = (rounding + 1e-13) * np.abs(cols * c).sum()
    assert abs(np.sum(cols * c) - np.sum(x * raised)) <= bound


def test_integers_and_views_are_taken():
    x = np.arange(2 * 3 * 5 * 4).reshape(4, 5, 3, 2).T
    expected = reference.im2col(x.astype(float), 2, 3, 1, 2)
    assert np.array_equal(im2col_cython(x, 2, 3, 1, 2), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: im2col_cython(np.zeros((3, 3)), 2, 2, 0, 1), r"\(N, C, H, W\), got \(3, 3\)"),
        (lambda: im2col_cython(np.zeros((1, 1, 3, 3)), 5, 2, 0, 1), "at least 5 pixels"),
        (lambda: im2col_cython(np.zeros((1, 1, 3, 3)), 2, 2, 0, 0), "stride 0"),
        (lambda: im2col_cython(np.zeros((1, 1, 3, 3)), 2, 2, -1, 1), "padding -1"),
        (
            lambda: col2im_cython(np.zeros((4, 3)), 1, 1, 3, 3, 2, 2, 0, 1),
            r"expected cols of shape \(4, 4\), got \(4, 3\)",
        ),
    ],
)
def test_errors_quote_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()
