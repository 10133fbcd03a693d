"""The page as one file, which needs no network and no server."""

import contextlib
import os
import secrets
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from support import files
from support.page import formats, sections
from support.start import ROOT

import jinja2
from markupsafe import Markup

HERE = Path(__file__).parent
# whose runs each section shows; a hand-out has not all of these scripts
SECTIONS = {
    sections.task_1: "train.py",
    sections.task_2: "train_l2reg.py",
    sections.task_3: "pytorch_mnist.py",
    sections.task_4: "pytorch_cifar.py",
    sections.bonus: "hinge_bonus.py",
}
WATCH_SECONDS = 1  # between two looks at the run folders


def write_page(save_dir, live=False, networks="default"):
    """Read all runs in save_dir and write save_dir/report.html; returns its path.

    live: the open page follows by itself. networks: which go into it; default | all | none.
    """
    page = _template().render(
        **{
            section.__name__: section(save_dir) if (ROOT / script).exists() else None
            for section, script in SECTIONS.items()
        },
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
    """What the page says of the networks; None in a hand-out, which is without that folder: there
    the layers that the hand-out leaves to do are written out.
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
    filters = {f.__name__: f for f in (formats.percent, formats.number, formats.duration)}
    environment.filters |= {**filters, "transposed": lambda columns: zip(*columns, strict=True)}
    environment.globals["file"] = _inlined
    return environment.get_template("page.html")


def _inlined(name):
    """The style sheet or the script of the page as it is."""
    return Markup((HERE / name).read_text(encoding="utf-8").strip())


def follow(save_dir, networks="default"):
    """Rewrite the live page whenever a run has got on, until Ctrl-C; then once more, to stay.

    Where that fails, because a folder was moved meanwhile or a disk is full, it is tried again.
    """
    before, said = _progress(save_dir), None
    try:
        while True:
            time.sleep(WATCH_SECONDS)
            now = _progress(save_dir)
            if now == before:
                continue
            try:
                write_page(save_dir, True, networks)
                before = now
            except OSError as error:
                if said != str(error):
                    said = str(error)
                    print(f"warning: the page is as it was: {said}", file=sys.stderr)
    except KeyboardInterrupt:
        write_page(save_dir, networks=networks)


def _progress(save_dir):
    """What changes when a run gets on: when its tables were last written."""
    times = {}
    for folder, _, names in os.walk(save_dir):  # which does without what is moved meanwhile
        for name in names:
            if name.endswith(".csv") or name == "results.json":
                path = Path(folder, name)
                with contextlib.suppress(OSError):
                    times[path] = path.stat().st_mtime_ns
    return times
