from support import metrics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference

LABELS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=40)


def test_by_hand():
    confusion = metrics.confusion_matrix([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 0], 4)
    assert confusion.tolist() == [[2, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert metrics.accuracy(confusion) == 4 / 6
    assert metrics.precision(confusion).tolist() == [2 / 3, 2 / 3, 0, 0]
    assert metrics.recall(confusion).tolist() == [2 / 3, 1, 0, 0]
    assert metrics.f1(confusion).tolist() == pytest.approx([2 / 3, 4 / 5, 0, 0])
    assert metrics.support(confusion).tolist() == [3, 2, 1, 0]


def test_of_no_examples_is_zero():
    confusion = metrics.confusion_matrix([], [], 3)
    assert metrics.accuracy(confusion) == 0
    assert metrics.precision(confusion).tolist() == [0, 0, 0]


@given(LABELS)
def test_equal_to_reference(pairs):
    true, predicted = (np.array([pair[i] for pair in pairs], dtype=int) for i in (0, 1))
    confusion = metrics.confusion_matrix(true, predicted, 5)
    assert np.array_equal(confusion, reference.confusion_matrix(true, predicted, 5))


@given(LABELS)
def test_equal_to_scikit_learn(pairs):
    oracle = pytest.importorskip("sklearn.metrics")
    true, predicted = (np.array([pair[i] for pair in pairs], dtype=int) for i in (0, 1))
    confusion = metrics.confusion_matrix(true, predicted, 5)
    if pairs:
        expected = oracle.precision_recall_fscore_support(
            true, predicted, labels=range(5), zero_division=0
        )
        ours = [f(confusion) for f in (metrics.precision, metrics.recall, metrics.f1)]
        np.testing.assert_allclose(ours, expected[:3])
        assert np.array_equal(metrics.support(confusion), expected[3])
        accuracy = oracle.accuracy_score(true, predicted)
        assert metrics.accuracy(confusion) == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        ([0, 1], [0], r"got shapes \(2,\) and \(1,\)"),
        ([0, 3], [0, 1], "true classes from 0 to 2, got 0 to 3"),
        ([0, 1], [-1, 1], "predicted classes from 0 to 2, got -1 to 1"),
        ([0.5], [0], "true classes as integers, got float64"),
    ],
)
def test_errors(true, predicted, message):
    with pytest.raises(ValueError, match=message):
        metrics.confusion_matrix(true, predicted, 3)


def test_table_has_a_row_a_class_and_the_means():
    confusion = metrics.confusion_matrix([0, 0, 1], [0, 1, 1], 2)
    lines = metrics.per_class_table(confusion, ["cat", "dog"]).splitlines()
    assert lines[1].split() == ["cat", "1.0000", "0.5000", "0.6667", "2"]
    assert lines[2].split() == ["dog", "0.5000", "1.0000", "0.6667", "1"]
    assert lines[3].split() == ["mean", "0.7500", "0.7500", "0.6667", "3"]


def test_worst_mistakes_by_hand():
    logits = np.log([[0.7, 0.2, 0.1], [0.9, 0.06, 0.04], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1]])
    rows = metrics.worst_mistakes(logits, [1, 2, 2, 0], ["a", "b", "c"], 20)
    assert [row["index"] for row in rows] == [1, 0]
    assert rows[0]["loss"] == pytest.approx(-np.log(0.04))
    assert [rows[0][f"class_{rank}"] for rank in (1, 2, 3)] == ["a", "b", "c"]
    assert rows[0]["probability_2"] == pytest.approx(0.06)
    assert list(rows[0]) == metrics.MISTAKE_COLUMNS
    assert metrics.mistake_caption(rows[0]).splitlines() == [
        "true: c, loss 3.2", " 90.0%  a", "  6.0%  b", "  4.0%  c",
    ]  # fmt: skip
    assert len(metrics.worst_mistakes(logits, [1, 2, 2, 0], ["a", "b", "c"], 1)) == 1
    rows = metrics.worst_mistakes(logits, [1, 2, 2, 0], ["a", "b", "c"], 20, [0.5, 0.3, 9.0, 9.0])
    assert [(row["index"], row["loss"]) for row in rows] == [(0, 0.5), (1, 0.3)]


def test_examples_of_each_cell_are_those_the_model_is_surest_of():
    logits = np.array([[2, 0], [5, 0], [0, 1], [3, 0], [0, 9]])
    true = np.array([0, 0, 0, 0, 1])
    examples = metrics.cell_examples(logits, true, 2)
    assert examples.tolist() == [[[1, 3], [2, -1]], [[-1, -1], [4, -1]]]
