"""The lab report: one page, out/report.html, that shows everything that was run.

    python3 report.py                  # from the runs that are there
    python3 report.py --watch          # and again after each epoch while something trains
    python3 report.py --run-missing    # first run the scripts that have not been run, with defaults
    python3 report.py --demo           # the same on small generated data, into out/demo/

The page needs no network and no server. What is missing, interrupted or damaged is said in its
place, and how to run it.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from support.errors import one_line_errors
from support.missing_runs import DEMO_OPTIONS, run_missing
from support.options import folder_option, option, parse
from support.page.document import follow, write_page


@dataclass(kw_only=True)
class Config:
    save_dir: str = folder_option("SAVE_DIR", "out", "folder of the runs")
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
    save_dir = Path(config.save_dir)
    failed = 0
    if config.demo:
        save_dir = save_dir / "demo"
        failed = run_missing(save_dir, DEMO_OPTIONS)
    elif config.run_missing:
        failed = run_missing(save_dir, {})
    path = write_page(save_dir, config.watch, config.networks)
    print(f"the page is {path}", flush=True)
    if config.watch:
        print("the open page follows the runs; Ctrl-C ends that", flush=True)
        follow(save_dir, config.networks)
    return 1 if failed else 0


def main(argv=None):
    config = parse(Config, argv, __doc__)
    with one_line_errors(resumes=False):
        status = run(config)
    sys.exit(status)


if __name__ == "__main__":
    main()
