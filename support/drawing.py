"""Drawing with matplotlib that looks the same wherever it runs, and that never ends a training."""

import os
import sys
from contextlib import contextmanager, suppress


@contextmanager
def own_settings():
    """Draw with matplotlib's own defaults, whatever the user's matplotlibrc and MPLBACKEND say."""
    matplotlib = import_matplotlib()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["axes.titley"] = 1.0  # it need not look for what is in its way
        yield matplotlib


def import_matplotlib():
    """The package. It refuses to be imported where MPLBACKEND names something that it does not
    find: Jupyter and Colab hand theirs on to the scripts that they start.
    """
    if "matplotlib" not in sys.modules:
        backend = os.environ.pop("MPLBACKEND", None)
        import matplotlib

        if backend is not None:
            os.environ["MPLBACKEND"] = backend
            with suppress(ValueError):
                matplotlib.rcParams["backend"] = backend
    return sys.modules["matplotlib"]


@contextmanager
def warning_only(name):
    """Make an error of the body a line that says that there is no picture of this name.

    Warnings that were turned into errors stay errors.
    """
    try:
        yield
    except Warning:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"warning: {name} was not drawn: {reason[:300]}", file=sys.stderr, flush=True)
