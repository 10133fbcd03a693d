"""The marks as a table on the terminal, as marks.csv, and as marks.html, a page for the teacher."""

import time
from collections import Counter
from pathlib import Path

from support import files, tables
from support.start import ROOT

import jinja2
from markupsafe import Markup

from marking.text import cell

HERE = Path(__file__).parent


def line(marked):
    """One line for the terminal: the points, the name, and why if it did not run to its end."""
    line = f"{marked.points:>3} of {marked.out_of}  {marked.name}  {marked.stopped or ''}"
    return line.rstrip()


def table(marked):
    """A row for each submission, with the points of each task."""
    tasks = task_names(marked)
    columns = [("submission", "<"), ("points", ""), *((task, "") for task in tasks), ("", "<")]
    rows = [
        [m.name, f"{m.points} of {m.out_of}", *map(str, task_points(m).values()), m.stopped or ""]
        for m in marked
    ]
    return tables.text_table(columns, rows)


def write(folder, marked, marker, num_found):
    """Write marks.csv and marks.html; marked: those of num_found submissions that are done."""
    rows = []
    for m in marked:
        row = {"submission": m.name, "points": m.points, "out of": m.out_of}
        row |= {f"{part.name}": part.points for part in m.parts}
        named = [f"{part.name}: {part.message}" for part in m.parts if part.mistake]
        row |= {"note": m.stopped or "", "mistakes": "; ".join(named)}
        row |= {"seconds": f"{m.seconds:.1f}", "seed": marker.seed}
        rows.append({column: cell(value) for column, value in row.items()})
    tables.write_table(folder / "marks.csv", list(rows[0]), rows)
    page = _template().render(
        marked=marked,
        num_found=num_found,
        tasks=task_names(marked),
        task_points=task_points,
        mistakes=common_mistakes(marked),
        num_full=sum(m.points == m.out_of for m in marked),
        num_stopped=sum(m.stopped is not None for m in marked),
        mean=sum(m.points for m in marked) / len(marked),
        seed=marker.seed,
        written=time.strftime("%Y-%m-%d %H:%M"),
    )
    files.write_whole(folder / "marks.html", page.strip() + "\n")


def task_names(marked):
    return list(dict.fromkeys(part.task for m in marked for part in m.parts))


def task_points(marked):
    """{task: its points} of one submission."""
    points = Counter()
    for part in marked.parts:
        points[part.task] += part.points
    return points


def common_mistakes(marked):
    """[(method, sentence, the submissions that have it)], the commonest first."""
    found = {}
    for m in marked:
        for part in m.parts:
            if part.mistake:
                entry = found.setdefault((part.name, part.mistake), (part.name, part.message, []))
                entry[2].append(m)
    return sorted(found.values(), key=lambda entry: -len(entry[2]))


def _template():
    options = dict.fromkeys(("autoescape", "trim_blocks", "lstrip_blocks"), True)
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), **options)
    styles = (ROOT / "support" / "page" / "page.css", HERE / "marks.css")
    style = "\n".join(path.read_text(encoding="utf-8").strip() for path in styles)
    environment.globals["style"] = Markup(style)
    return environment.get_template("marks.html")
