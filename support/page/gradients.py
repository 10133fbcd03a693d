"""What the gradient check shows: a line for each kind of layer, and its tensors behind that."""

import re

from support.read_runs import as_number

WHOLE = {"network": "the whole network"}


def gradients(record):
    """The tensors in gradients.csv by kind of layer, how many passed, and the largest error."""
    rows = record.rows("gradients.csv", ("name", "error", "index", "passed"))
    by_kind = {}
    for row in rows:
        by_kind.setdefault(re.split("[ :]", row["name"])[0], []).append(row)
    return {
        "layers": [_layer(WHOLE.get(kind, kind), rows) for kind, rows in by_kind.items()],
        "num": len(rows),
        "num_passed": sum(row["passed"] == "True" for row in rows),
        "largest_error": _largest(rows),
    }


def _layer(name, rows):
    failed = [row["name"] for row in rows if row["passed"] != "True"]
    return {"name": name, "rows": rows, "failed": failed, "error": _largest(rows)}


def _largest(rows):
    """The largest relative error, None where one is no number."""
    errors = [as_number(row["error"]) for row in rows]
    return None if None in errors else max(errors, default=0)
