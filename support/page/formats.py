"""How the page and the terminal show numbers; a dash stands for what is none."""

from support.read_runs import as_number

import jinja2


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
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s"


def _known(value):
    return None if isinstance(value, jinja2.Undefined) else as_number(value)
