"""What check_grads.py does with a student's file: load it, check its methods, build its layers."""

import sys
from importlib.util import find_spec
from pathlib import Path

from support import start
from support.errors import RunError
from support.framework import load_layers

from checks import calls, tasks
from checks.expectations import for_hand_out
from checks.judge import PASS, judge
from checks.probes import observe

GIVEN = ("Flatten", "RegularizedLoss")
NETWORK = {name.partition(".")[0] for name in tasks.ALL}.union(GIVEN)


def load(name):
    """The module of that name or in that file; exits with the student's own line if it fails."""
    try:
        return load_layers(name)
    except RunError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, ImportError) and start.explanation(error, error.__traceback__):
            raise
        file = Path(name) if name.endswith(".py") else Path(find_spec(name).origin)
        text = calls.explanation(error, file)
        sys.exit(f"{file.name} cannot be imported: {text}")


def check(layers, only=None):
    """A MethodResult for each method, those of Convolution and MaxPooling included.

    only: a class or Class.method, whose prints are shown. Raises: RunError if there is none.
    """
    try:
        methods = tasks.chosen(only or None)
    except ValueError as error:
        raise RunError(f"--only: {error}") from error
    return judge(observe(layers, only=only or None, quiet=not only), for_hand_out(), methods)


def shown(results, only=None):
    """The results that are worth a line: what the exercise gives, only where it is not right."""
    return [r for r in results if only or r.name in tasks.NINE or r.status != PASS]


def right_classes(layers, results, only=None):
    """The names of the classes whose methods all pass, and of those that nobody has to write."""
    wrong = {r.name.partition(".")[0] for r in results if r.status != PASS}
    known = {r.name.partition(".")[0] for r in results}
    given = () if only else GIVEN
    return {name for name in (*known, *given) if hasattr(layers, name)} - wrong


def built(left_out, title, kind, *args, **options):
    """A layer, or None, with a line in left_out, if its file does not offer these options."""
    layer, failure = calls.attempt(kind, *args, **options)
    failure = failure or calls.padding_refusal(layer, options.get("padding", "SAME"))
    if failure is None:
        return layer
    reason = (failure.partition(": ")[2] or failure).splitlines()[0]
    left_out.append(f"{title}: {reason}")
    return None
