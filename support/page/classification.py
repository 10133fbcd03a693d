"""What the test of a run shows: the confusion matrix and the worst mistakes."""

from support import metrics
from support.page.pictures import tiles
from support.read_runs import MAX_NUMBER, as_number

import numpy as np

NUM_CONFUSED = 3  # pairs of classes that the text names


def confusion(record):
    """The confusion matrix, the metrics of each class and the example images; None without."""
    names, counts = _counts(record)
    if not names:
        return None
    num_images = metrics.support(counts)
    shares = counts / np.maximum(num_images, 1)[:, None]
    columns = np.stack([f(counts) for f in (metrics.precision, metrics.recall, metrics.f1)])
    return {
        "names": names,
        "counts": counts.tolist(),
        "shares": shares.tolist(),
        "support": num_images.tolist(),
        "confused": _confused(shares),
        "classes": list(zip(names, columns.T.tolist(), num_images.tolist(), strict=True)),
        "means": columns.mean(axis=1).tolist(),
        "total": int(counts.sum()),
        "tiles": tiles(record, "confusion_examples.png", len(names)),
    }


def _counts(record):
    """The names of the classes and the confusion matrix, (K, K); no names if it is damaged."""
    rows = record.rows("confusion_matrix.csv", ("true",))
    names = [row["true"] for row in rows]
    try:
        counts = [[int(row[name]) for name in names] for row in rows]
        if not all(0 <= count < MAX_NUMBER for row in counts for count in row):
            raise ValueError("a count is out of all bounds")
        if len(set(names)) < len(names):
            raise ValueError("a class is there twice")
    except (KeyError, ValueError) as error:
        record.add_problem("confusion_matrix.csv", error)
        return [], None
    return names, np.array(counts)


def _confused(shares):
    """The pairs (true, predicted) of classes that are most often taken for one another."""
    wrong = shares - np.diag(np.diag(shares))
    order = np.argsort(-wrong, axis=None, kind="stable")
    pairs = [divmod(int(cell), len(shares)) for cell in order[:NUM_CONFUSED]]
    return [pair for pair in pairs if wrong[pair]]


def worst(record):
    """The worst mistakes: class, loss, the three most probable classes; and their images."""
    mistakes = []
    for row in record.rows("worst_20.csv", metrics.MISTAKE_COLUMNS):
        top = [(row[f"class_{i}"], as_number(row[f"probability_{i}"])) for i in (1, 2, 3)]
        if not all(share is not None and 0 <= share <= 1 for _, share in top):
            record.add_problem("worst_20.csv", "a probability is no number from 0 to 1")
            return None
        mistakes.append({key: row[key] for key in ("index", "true", "loss")} | {"top": top})
    return {"mistakes": mistakes, "tiles": tiles(record, "worst_20_images.png", 1)}
