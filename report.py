"""The lab report: one page, out/report.html, that shows everything that was run.

    python3 report.py                  # from the runs that are there
    python3 report.py --author "Ada Lovelace" --course "Deep Learning 1"    # a page to hand in
    python3 report.py --questions      # write answers.md, for the answers in words
    python3 report.py --watch          # the page again after each epoch while something trains
    python3 report.py --run-missing    # first run the scripts that have not been run, with defaults
    python3 report.py --demo           # the same on small generated data, into out/demo/
    python3 report.py --hash           # hashes of code and runs, and whether the page has the same

The page needs no network and no server. What is missing, interrupted or damaged is said in its
place, and how to run it.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from support import answers
from support.errors import RunError, one_line_errors
from support.files import write_whole
from support.missing_runs import DEMO_EXPECTED, DEMO_OPTIONS, SCRIPTS, run_missing
from support.options import CheckedOptions, folder_option, option, parse
from support.page import hashes
from support.page.document import follow, write_page
from support.page.hand_in import HandIn
from support.start import ROOT


@dataclass(kw_only=True)
class Config(CheckedOptions):
    save_dir: str = folder_option("SAVE_DIR", "out", "folder of the runs")
    author: str = option("", "your name, for the head of the page")
    course: str = option("", "the course's name, likewise")
    answers: str = option(
        str(ROOT / answers.NAME),
        "your answers in words; those in numbers and the code lie beside them",
    )
    questions: bool = option(False, "write that file with the questions, if there is none")
    hash: bool = option(False, "print the hashes of code and runs and compare them with the page's")
    watch: bool = option(False, "rewrite the page whenever a run gets on, until Ctrl-C")
    networks: str = option(
        "default",
        "which networks the page shows alive: default: those trained in Tasks 1, 2 (the best λ) "
        "and 4, and Task 1's before training; all: those of every run; none",
        choices=("default", "all", "none"),
    )
    run_missing: bool = option(False, "run what has not been run, with its defaults")
    demo: bool = option(
        False, "run everything on small generated data, into demo/ in the save folder"
    )


def run(config):
    """Write the page as config says; returns the exit status."""
    path = Path(config.answers).absolute()
    if config.questions:
        return write_questions(path)
    save_dir = Path(config.save_dir, "demo" if config.demo else "")
    if config.hash:
        return compare_hashes(path, save_dir)
    failed = 0
    if config.demo:
        failed = run_missing(save_dir, DEMO_OPTIONS, DEMO_EXPECTED)
    elif config.run_missing:
        failed = run_missing(save_dir, {})
    elif not config.watch and not any((save_dir / script).is_dir() for script in SCRIPTS):
        raise RunError(f"no run is in {save_dir}; python3 train.py makes one, --run-missing all")
    handed_in = HandIn(author=config.author, course=config.course, answers=path)
    page = write_page(save_dir, config.watch, handed_in, config.networks)
    print(f"the page is {page}", flush=True)
    if config.watch:
        print("the open page follows the runs; Ctrl-C ends that", flush=True)
        follow(save_dir, handed_in, config.networks)
    return 1 if failed else 0


def write_questions(path):
    """Write an answers.md. Raises: RunError if there is one."""
    if path.exists():
        raise RunError(f"{path} is already there, and left as it is")
    write_whole(path, answers.template(answers.parts_here()))
    print(f"{path} has the questions; python3 report.py shows the answers on the page")
    return 0


def compare_hashes(path, save_dir):
    """Print the hashes of code and runs; returns 0 if the page has the same, else 1."""
    found = hashes.hashes(path, save_dir)
    for name, value in found.items():
        print(f"{value}  {name}")
    page = save_dir / "report.html"
    said = hashes.on_page(page)
    if said is None:
        print(f"there is no page to compare with: {page}")
    else:
        is_same = said == found[hashes.ALL]
        print(f"{page} has {'the same' if is_same else 'another one: ' + said}")
    return 0 if said == found[hashes.ALL] else 1


def main(argv=None):
    config = parse(Config, argv, __doc__)
    with one_line_errors(resumes=False):
        status = run(config)
    sys.exit(status)


if __name__ == "__main__":
    main()
