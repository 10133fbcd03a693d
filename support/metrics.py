"""Classification metrics: the confusion matrix, all that follows from it, the worst mistakes.

K classes; a confusion matrix is (K, K), rows the true class, columns the predicted one, entries
the number of examples. A ratio 0/0 (the precision of a class that was never predicted, the recall
of one that never occurs, any metric of no examples) is 0, as in scikit-learn with zero_division=0.
"""

from support.tables import text_table

import numpy as np


def confusion_matrix(true, predicted, num_classes):
    """Count the pairs of true and predicted class.

    Shapes: true, predicted (N,) integers from 0 to num_classes - 1 -> (K, K) of int64.
    Raises: ValueError for other shapes, types or values.
    """
    true, predicted = np.asarray(true), np.asarray(predicted)
    if true.ndim != 1 or true.shape != predicted.shape:
        raise ValueError(
            f"expected two vectors of one length, got shapes {true.shape} and {predicted.shape}"
        )
    for name, labels in (("true", true), ("predicted", predicted)):
        if labels.size and not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"expected {name} classes as integers, got {labels.dtype}")
        if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
            raise ValueError(
                f"expected {name} classes from 0 to {num_classes - 1}, "
                f"got {labels.min()} to {labels.max()}"
            )
    pairs = true.astype(np.int64) * num_classes + predicted.astype(np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(confusion):
    """Share of the examples on the diagonal, a fraction."""
    return float(_ratio(np.trace(confusion), np.sum(confusion)))


def precision(confusion):
    """Of the examples predicted as each class, the share that is of it. Shape (K,)."""
    return _ratio(np.diag(confusion), np.sum(confusion, axis=0))


def recall(confusion):
    """Of the examples of each class, the share that was predicted as it. Shape (K,)."""
    return _ratio(np.diag(confusion), support(confusion))


def f1(confusion):
    """Harmonic mean of precision and recall of each class. Shape (K,)."""
    return _ratio(2 * np.diag(confusion), np.sum(confusion, axis=0) + support(confusion))


def support(confusion):
    """Number of examples of each class. Shape (K,)."""
    return np.sum(confusion, axis=1)


def confusion_table(confusion, class_names):
    """The confusion matrix as lines of text, rows the true class, columns the predicted one."""
    columns = [("true \\ predicted", "<"), *((name[:5], "4d") for name in class_names)]
    rows = [[name[:16], *counts] for name, counts in zip(class_names, confusion, strict=True)]
    return text_table(columns, rows)


def per_class_table(confusion, class_names):
    """Precision, recall, F1 and support of each class and their means, as lines of text."""
    shares = np.stack([precision(confusion), recall(confusion), f1(confusion)], axis=1)
    columns = [("", "<"), ("precision", ".4f"), ("recall", ".4f"), ("F1", ".4f"), ("support", "d")]
    rows = [
        [name, *values, count]
        for name, values, count in zip(class_names, shares, support(confusion), strict=True)
    ]
    return text_table(columns, [*rows, ["mean", *shares.mean(axis=0), np.sum(confusion)]])


MISTAKE_COLUMNS = ["index", "true", "loss"] + [
    f"{what}_{rank}" for rank in (1, 2, 3) for what in ("class", "probability")
]


def worst_mistakes(logits, true, class_names, num, losses=None, worst=None):
    """What is to say of the misclassified examples with the largest loss, the worst one first.

    Shapes: logits (N, K), true (N,), losses (N,), cross-entropy if not given. Returns at most num
    dicts with the keys MISTAKE_COLUMNS: the index of the example, its class, its loss, and the
    three most probable classes. worst: the indices, where they are known.
    """
    from scipy import special  # here, because its import takes longer than --help may

    logits, true = np.asarray(logits, dtype=np.float64), np.asarray(true)
    log_probs = special.log_softmax(logits, axis=1)
    if losses is None:
        losses = -log_probs[np.arange(len(true)), true]
    losses = np.asarray(losses)
    if worst is None:
        wrong = np.flatnonzero(logits.argmax(axis=1) != true)
        worst = wrong[np.argsort(-losses[wrong], kind="stable")][:num]
    rows = []
    for index in worst:
        row = {"index": int(index), "true": class_names[true[index]], "loss": float(losses[index])}
        for rank, k in enumerate(np.argsort(-logits[index], kind="stable")[:3], start=1):
            row[f"class_{rank}"] = class_names[k]
            row[f"probability_{rank}"] = float(np.exp(log_probs[index, k]))
        rows.append(row)
    return rows


def cell_examples(logits, true, num_each):
    """For each pair of true and predicted class the examples the model is surest of.

    Shapes: logits (N, K), true (N,) -> (K, K, num_each) of indices, -1 where there are no more.
    """
    from scipy import special

    logits, true = np.asarray(logits, dtype=np.float64), np.asarray(true)
    predicted = logits.argmax(axis=1)
    K = logits.shape[1]
    probability = special.softmax(logits, axis=1).max(axis=1)
    surest = np.argsort(-probability, kind="stable")
    examples = np.full((K, K, num_each), -1)
    for i, j in np.ndindex(K, K):
        indices = surest[(true[surest] == i) & (predicted[surest] == j)][:num_each]
        examples[i, j, : len(indices)] = indices
    return examples


def mistake_caption(row):
    """A row of worst_mistakes as four lines of text to stand above its image."""
    lines = [f"true: {row['true']}, loss {row['loss']:.1f}"]
    lines += [f"{row[f'probability_{rank}']:6.1%}  {row[f'class_{rank}']}" for rank in (1, 2, 3)]
    return "\n".join(lines)


def _ratio(numerator, denominator):
    """numerator / denominator, and 0 where the denominator is 0."""
    return np.where(np.equal(denominator, 0), 0.0, numerator / np.maximum(denominator, 1))
