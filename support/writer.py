"""Files are written by a thread of their own, while training goes on."""

from concurrent.futures import ThreadPoolExecutor, wait


class Writer:
    """Does one job at a time beside the caller, in the order in which they come.

    A job that comes while another is being done waits, and its caller with it: none is left out,
    and no more than one copy of a training's state is in memory. Python does not end before the
    last job is done.
    """

    def __init__(self):
        self._pool = ThreadPoolExecutor(1, "writer")
        self._last = None

    def do(self, job):
        """Begin with a job, a function without arguments, once the one before is done.

        Raises: what that one raised, and then does not begin.
        """
        self.wait()
        self._last = self._pool.submit(job)

    def wait(self):
        """Until all is written. Raises: what the last job raised, once."""
        if self._last is not None:
            wait([self._last])  # a signal that ends this leaves the job as it is
            last, self._last = self._last, None
            last.result()

    def obey(self):
        """Raise, without waiting, what the last job raised, if it is done."""
        if not self.is_busy:
            self.wait()

    @property
    def is_busy(self):
        return self._last is not None and not self._last.done()

    def close(self):
        """Wait for the last job; then there is no thread any more."""
        self._pool.shutdown()
        self.wait()
