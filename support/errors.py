"""What ends a run, and how a script says so: in one line, with a status."""

import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

from support import surroundings
from support.start import lacks_memory


class RunError(ValueError):
    """A run that cannot start or go on; the message says in one line why and what to do."""


class Diverged(RunError):  # noqa: N818 -- an event, as below
    """A loss or a parameter is no longer finite."""


class Interrupted(Exception):  # noqa: N818 -- an event, not an error
    """A signal ended the run after it was saved; signum says which."""

    def __init__(self, signum, message):
        super().__init__(message)
        self.signum = signum


@contextmanager
def one_line_errors(*kinds, resumes=True):
    """Turn the errors a user can mend, RunError, OSError and `kinds`, into one line and status 1.

    After a signal the status is 128 + its number, as in a shell. resumes: whether the script has
    the options of a training, --resume and --batch-size, to advise.
    """
    script = Path(sys.argv[0]).name
    try:
        yield
        sys.stdout.flush()  # or Python does so at its end, and says what fails in lines of its own
    except Interrupted as stop:
        _last_words(f"{script}: {stop}", 128 + stop.signum)
    except KeyboardInterrupt:
        _last_words(f"{script}: stopped", 128 + signal.SIGINT)
    except BrokenPipeError:  # the reader, head for example, has seen enough
        surroundings.discard_output()
        sys.exit(128 + 13)  # SIGPIPE, as in a shell
    except NotImplementedError as error:  # the gaps of a hand-out
        if "aten::" in str(error):  # an operator that PyTorch has not on this device
            raise
        sys.exit(
            f"{script}: error: {error}: still to be written; check_grads.py lists what is to do"
        )
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        message = " ".join(f"not enough memory: {error}".split()).removesuffix(":")
        sys.exit(f"{script}: error: {message}" + "; a smaller --batch-size needs less" * resumes)
    except (RunError, OSError, *kinds) as error:
        is_of_output = surroundings.discard_output() and not getattr(error, "filename", None)
        message = "standard output: " * is_of_output + " ".join(str(error).split())
        sys.exit(f"{script}: error: {message}{surroundings.no_room(error, resumes)}")


def _last_words(message, status):
    """Exit with a status and a message, even if there is no terminal left to show it."""
    with suppress(OSError):
        print(message, file=sys.stderr, flush=True)
    surroundings.discard_output()
    sys.exit(status)
