"""The page as one file, which needs no network and no server."""

import contextlib
import os
import secrets
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from support import answers, files
from support.locks import is_in_use
from support.page import formats, hand_in, sections
from support.start import ROOT

import jinja2
from markupsafe import Markup

HERE = Path(__file__).parent
SECTIONS = {
    "1": sections.task_1,
    "2": sections.task_2,
    "3": sections.task_3,
    "4": sections.task_4,
    "B": sections.bonus,
}
WATCH_SECONDS = 1  # between two looks at the run folders


def write_page(save_dir, live=False, handed_in=None, networks="default"):
    """Read all runs in save_dir and write save_dir/report.html; returns its path.

    live: the open page follows by itself. handed_in: a HandIn, whose page it is. networks: which
    go into it; default | all | none.
    """
    handed_in = handed_in or hand_in.HandIn()
    parts = answers.parts_here(ROOT)
    page = _template().render(
        **{
            section.__name__: section(save_dir) if part in parts else None
            for part, section in SECTIONS.items()
        },
        hand_in=hand_in.contents(handed_in, save_dir, parts),
        network=_networks(save_dir, networks),
        live=live,
        version=str(time.time_ns()),
        nonce=secrets.token_urlsafe(16),
        written=time.strftime("%Y-%m-%d %H:%M"),
    )
    save_dir.mkdir(parents=True, exist_ok=True)
    path = save_dir / "report.html"
    files.write_whole(path, page.strip())
    return path


def _networks(save_dir, which):
    """What the page says of the networks; None where that folder was taken out of a hand-out, for
    it has the layers written out in JavaScript.
    """
    if find_spec("support.page.network") is None:
        return None
    from support.page.network.section import network

    return network(save_dir, which)


def _template():
    options = dict.fromkeys(
        ("autoescape", "trim_blocks", "lstrip_blocks", "keep_trailing_newline"), True
    )
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), **options)
    names = ("percent", "number", "duration", "rate", "rough")
    filters = {name: getattr(formats, name) for name in names}
    environment.filters |= {**filters, "transposed": lambda columns: zip(*columns, strict=True)}
    environment.globals["file"] = _inlined
    return environment.get_template("page.html")


def _inlined(name):
    """A style sheet or a script of the page as it is."""
    return Markup((HERE / name).read_text(encoding="utf-8").strip())


def follow(save_dir, handed_in=None, networks="default"):
    """Rewrite the live page whenever a run has got on, until Ctrl-C; then once more, to stay.

    Where that fails, because a folder was moved meanwhile or a disk is full, it is tried again.
    """
    handed_in = handed_in or hand_in.HandIn()
    before, said = None, None  # a run may have got on while the first page was written
    try:
        while True:
            time.sleep(WATCH_SECONDS)
            now = _progress(save_dir, handed_in)
            if now == before:
                continue
            try:
                write_page(save_dir, True, handed_in, networks)
                before = now
            except OSError as error:
                if said != str(error):
                    said = str(error)
                    print(f"warning: the page is as it was: {said}", file=sys.stderr)
    except KeyboardInterrupt:
        write_page(save_dir, False, handed_in, networks)


def _progress(save_dir, handed_in):
    """What changes when a run gets on or an answer is written: when its files were last written,
    and whether a process writes there, for a run that is killed writes nothing more.
    """
    paths = [handed_in.answers, handed_in.answers.with_suffix(".toml")]
    for folder, _, names in os.walk(save_dir):  # which does without what is moved meanwhile
        tables = [name for name in names if name.endswith(".csv") or name == "results.json"]
        paths += [Path(folder, name) for name in tables]
    times = {path.parent: is_in_use(path.parent) for path in paths if path.name == "results.json"}
    for path in paths:
        with contextlib.suppress(OSError):
            times[path] = path.stat().st_mtime_ns
    return times
