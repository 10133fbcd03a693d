"""Tables: as aligned text for the terminal, and as .csv files."""

import csv
import io
from pathlib import Path

from support import files


def text_table(columns, rows):
    """A table as text: a line of titles, a line a row, two spaces between the columns.

    columns: a pair for each, its title and the format of its numbers, such as ("loss", ".4f");
    a column of format "<" is set to the left, all others to the right.
    rows: lists of cells; a text stands as it is.
    """
    cells = [[title for title, _ in columns]]
    for row in rows:
        pairs = zip(row, columns, strict=True)
        cells.append([v if isinstance(v, str) else format(v, spec) for v, (_, spec) in pairs])
    aligned = []
    for (_, spec), column in zip(columns, zip(*cells, strict=True), strict=True):
        width = max(map(len, column))
        aligned.append([f"{cell:{'<' if spec == '<' else '>'}{width}}" for cell in column])
    return "\n".join("  ".join(line).rstrip() for line in zip(*aligned, strict=True))


def write_table(path, columns, rows):
    """Rows, mappings with the keys `columns` at least, as a .csv file, whole or not at all."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    files.write_whole(path, buffer.getvalue())


def read_table(path, required=()):
    """The rows of a .csv file as dicts of texts.

    Raises: OSError; ValueError if a column in `required` is missing, or a row is damaged.
    """
    with Path(path).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            columns, rows = reader.fieldnames or (), list(reader)
        except csv.Error as error:
            raise ValueError(str(error)) from error
    if not set(required) <= set(columns):
        raise ValueError(f"expected the columns {', '.join(required)}")
    if any(None in row or None in row.values() for row in rows):
        raise ValueError("a row is longer or shorter than the first")
    return rows
