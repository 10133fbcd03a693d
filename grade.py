"""For teachers: mark submissions of the lab, each in a process of its own.

    python3 grade.py FOLDER                     # a sub-folder, a zip or a .py file for each student
    python3 grade.py FOLDER --marks mine.toml   # other points and limits than marking/marks.toml
    python3 grade.py FOLDER --format gradescope # or classroom50, or junit: files for these, too

It writes out/grade/marks.html, a page about all, and marks.csv. The inputs differ from those of the
hand-out and are drawn anew each time; --seed repeats them.

A submission is a program of somebody else. Its process gets inputs and returns what it computed;
what is right is known and decided here, so that nothing it prints, patches or pretends makes a
point. Time, memory, open files, written and printed bytes and the number of its processes are
limited. What the limits do not keep out: it may read what you may read, write small files where you
may write, and use the network. Whoever does not know their students lets all this run in a
container: marking/README.md has the commands. There root marks, and each submission runs as the
user nobody, who can read no solution and write next to nothing.
"""

import secrets
from dataclasses import dataclass
from pathlib import Path

from support import data
from support.errors import RunError, one_line_errors
from support.folders import move_aside
from support.options import CheckedOptions, folder_option, option, parse

from checks.expected import expected
from marking import answers, formats, limited, outputs, scheme, submissions
from marking.mark import Marker
from marking.training import ShortTraining


@dataclass(kw_only=True)
class Config(CheckedOptions):
    folder: str = option("", "folder with the submissions", is_folder=True, is_positional=True)
    seed: int | None = option(
        None, "of the inputs; drawn if not given", minimum=0, maximum=2**32 - 1
    )
    marks: str = option(str(scheme.DEFAULT), "file with points and limits")
    format: str = option("none", "write files for this, too", choices=("none", *formats.WRITERS))
    save_dir: str = folder_option("SAVE_DIR", "out", "folder that gets grade/")
    data_dir: str = folder_option("DATA_DIR", "datasets", "folder of the data sets")
    dataset: str = option(
        "auto",
        "images of the short training; synthetic: generated; auto: MNIST if possible",
        choices=("auto", "mnist", "synthetic"),
    )


def marker(config):
    """What marks a submission as config says."""
    points = scheme.read_scheme(config.marks)
    seed = secrets.randbelow(2**31) + 1 if config.seed is None else config.seed
    training = None
    if points.training.points:
        mnist = data.load_mnist(config.data_dir, config.dataset, points.training.images)
        mnist.announce()
        training = ShortTraining(mnist, points.training, points.limits, seed)
    return Marker(points, seed, expected(seed), answers.judge, training)


def run(config):
    """Mark all that is in the folder, and write page and tables; returns the list of Marked."""
    found = submissions.find(config.folder)
    if not found:
        raise RunError(f"{config.folder} holds no submission: no folder, .zip or .py file")
    judging = marker(config)
    folder = Path(config.save_dir) / "grade"
    if folder.exists():
        print(f"the earlier marks are kept in {move_aside(folder)}")
    folder.mkdir(parents=True)
    print(f"{len(found)} submissions; --seed {judging.seed} repeats these inputs")
    if missing := limited.unlimited():
        print(f"warning: not limited on this system: {', '.join(missing)}")
    marked = []
    for number, submission in enumerate(found, 1):
        marked.append(judging.mark(submission))
        print(f"{number:>4}/{len(found)}  {outputs.line(marked[-1])}", flush=True)
        outputs.write(folder, marked, judging, len(found))  # what is marked stays, whatever comes
    if config.format != "none":
        formats.WRITERS[config.format](folder, marked, judging.seed, config.marks)
    print(f"\n{outputs.table(marked)}\n\neverything is in {folder}; the page is marks.html")
    return marked


def main(argv=None):
    config = parse(Config, argv, __doc__)
    with one_line_errors(data.DataError, resumes=False):
        run(config)


if __name__ == "__main__":
    main()
