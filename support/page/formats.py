"""How the page and the terminal show numbers; a dash stands for what is none."""

import shlex
from pathlib import Path, PureWindowsPath

from support.read_runs import as_number
from support.start import ROOT

import jinja2

PLACES = ("--data-dir", "--save-dir")  # options that say where things lie on one machine


def percent(value, digits=2):
    """A fraction, or the text of one, as per cent."""
    value = _known(value)
    return "–" if value is None else f"{100 * value:.{digits}f}\u00a0%"  # no line breaks there


def number(value, spec=","):
    """A number, or the text of one, by a format."""
    value = _known(value)
    return "–" if value is None else format(value, spec)


def duration(seconds):
    seconds = _known(seconds)
    if seconds is None:
        return "–"
    if seconds < 0.9995:  # or it would be rounded to 1e+03 ms
        return f"{1000 * seconds:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s"


def rate(value):
    """How many in a second."""
    value = _known(value)
    return "–" if value is None else f"{value:,.0f}" if value >= 9.95 else f"{value:.2g}"


def rough(value):
    """A number, or the text of one, to its first digit, for what differs from call to call."""
    value = _known(value)
    return "–" if value is None else f"{float(f'{value:.1g}'):,g}"


def command(text):
    """A command as one would type it in the lab's folder for a run from its beginning to its end,
    without the places of one machine.
    """
    try:
        words = shlex.split(text)
    except ValueError:  # a quotation that is not closed
        return text
    typed, before = [], ""
    for word in words:
        if word == "--resume":  # the same run without an interruption
            continue
        name, sign, value = word.partition("=")
        is_option = bool(sign) and name.startswith("--")
        path, option = (value, name) if is_option else (word, before)
        before = word
        if not _is_absolute(path):
            typed.append(word)
        elif option not in PLACES:
            typed.append(f"{name}={_relative(path)}" if is_option else _relative(path))
        elif not is_option:
            typed.pop()
    return shlex.join(typed)


def _is_absolute(path):
    return path.startswith(("/", "~")) or PureWindowsPath(path).is_absolute()


def _relative(path):
    """From the lab's folder, where the path lies in it; else its name alone."""
    try:
        return Path(path).relative_to(ROOT).as_posix()
    except ValueError:
        return PureWindowsPath(path).name


def _known(value):
    return None if isinstance(value, jinja2.Undefined) else as_number(value)
