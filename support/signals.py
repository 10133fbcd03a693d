"""SIGINT, SIGTERM and SIGHUP, which comes when the terminal is closed, end a run gently."""

import signal
import threading
from contextlib import contextmanager

from support.errors import Interrupted

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows does not have the last


class Leave(BaseException):
    """Raised where a signal comes within anywhere(): whoever catches it calls obey().

    The run is saved there, where no lock is held that the thread which writes files may wait for;
    and no `except Exception` on the way keeps it back.
    """


class Signals:
    """The first signal ends a run after the step in hand, or at once within anywhere(); a second
    one ends it at once wherever it is. One that is ignored, as nohup does, stays so.

    stop: a function of the signal's number that saves the run and raises. agree: where several
    processes train together, a function that all of them call after each step, with the number of
    the signal that they got or None; it tells all the same.
    """

    def __init__(self, stop):
        self.agree = None
        self._stop = stop
        self._signum = None
        self._may_stop_here = False
        self._earlier = {}  # handlers

    def catch(self):
        if threading.current_thread() is threading.main_thread():
            for signum in [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]:
                if signal.getsignal(signum) is not signal.SIG_IGN:
                    self._earlier[signum] = signal.signal(signum, self._on_signal)

    def release(self, message):
        """Give signals back the effect they had, and return what one that came ends with, with a
        message; neither where several processes train together.
        """
        # when one of them is lost, torchrun sends SIGTERM to the others, which have yet to say why
        # they end
        while self.agree is None and self._earlier:
            signal.signal(*self._earlier.popitem())
        if self._signum is None or self.agree is not None:
            return None
        return Interrupted(self._signum, message)

    def obey(self):
        """Stop if there was a signal."""
        if self.agree is not None:
            self._signum = self.agree(self._signum)
        if self._signum is not None:
            self._stop(self._signum)

    @contextmanager
    def anywhere(self):
        """A signal may end the body anywhere: it changes nothing that a checkpoint holds.

        Not so where several processes do it together; they stop after the next step.
        """
        if self.agree is not None:
            yield
            return
        self._may_stop_here = True
        try:
            self.obey()
            yield
        finally:
            self._may_stop_here = False

    def _on_signal(self, signum, _frame):
        if self._signum is not None:
            raise KeyboardInterrupt
        self._signum = signum
        if self._may_stop_here:
            self._may_stop_here = False
            raise Leave
