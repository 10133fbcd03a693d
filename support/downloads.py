"""Downloads: from the first of several mirrors that answers, checked by their MD5 sums."""

import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from support import files
from support.data_files import NotFoundError

REACH_SECONDS = 8  # how long a mirror may take to answer at all
STALL_SECONDS = 10  # how long a download may stand still
LOCK_SECONDS = 3_600  # how long to wait for another process that downloads


def download(files, mirrors, folder):
    """Fetch files, {name: MD5}, from the first of the mirrors that has them whole, into folder.

    Of several processes that want them at once, one fetches them and the others wait.
    Raises: NotFoundError with the reason for each mirror, within REACH_SECONDS if none answers; or
    with the reason why nothing can be written to folder.
    """
    import pooch  # here, because their imports take longer than --help may
    from filelock import FileLock

    folder = Path(folder)
    lock = folder / ".download.lock"
    new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # fails here where nothing can be written
        with ExitStack() as stack:
            # some file systems have no locks; without one, two processes may fetch the same
            with suppress(OSError, NotImplementedError):
                stack.enter_context(FileLock(lock, timeout=LOCK_SECONDS))
                stack.callback(_remove, lock)  # by its holder alone
            missing = {name: md5 for name, md5 in files.items() if not (folder / name).exists()}
            if missing:
                _download_from(pooch, missing, mirrors, folder)
    except OSError as error:
        path = folder / next(iter(files))
        raise NotFoundError(
            f"{path} is missing and cannot be written: {error.strerror or error}"
        ) from error
    finally:
        with suppress(OSError):
            for made in new_folders:
                made.rmdir()  # if nothing came


def _remove(path):
    with suppress(OSError):
        path.unlink()


def _download_from(pooch, files, mirrors, folder):
    answering, reasons = _answering(mirrors, next(iter(files)))
    downloader = pooch.HTTPDownloader(timeout=STALL_SECONDS, progressbar=sys.stderr.isatty())
    pooch.get_logger().setLevel("WARNING")
    for name, md5 in files.items():
        for mirror in answering:
            print(f"downloading {mirror}{name}")
            try:
                _fetch(pooch, downloader, mirror + name, folder / name, md5)
                break
            except (OSError, ValueError) as error:  # those of requests are OSErrors
                reasons[mirror] = " ".join(str(error).split())
        else:
            tried = "; ".join(f"{mirror}: {reasons[mirror]}" for mirror in mirrors)
            raise NotFoundError(
                f"{folder / name} is missing and could not be downloaded ({tried}); "
                "a copy may be put there by hand"
            )


def _fetch(pooch, downloader, url, path, md5):
    """Let path be the content of url, or nothing: who kills this process finds no half of it there.

    Raises: OSError; ValueError if it is not what it should be.
    """
    files.remove_parts(path.parent, path.name)
    with files.whole(path) as temporary:
        downloader(url, str(temporary), None)
        got = pooch.file_hash(temporary, "md5")
        if got != md5:
            raise ValueError(f"expected a file with the MD5 hash {md5}, got {got}")


def _answering(mirrors, name):
    """Those of the mirrors that answer within REACH_SECONDS, and why the others do not.

    All are asked at once, in threads that are left behind when the time is up: looking up a name on
    a blocked network may hang for longer than any time-out of the request.
    """
    import requests

    reasons = dict.fromkeys(mirrors, f"no answer within {REACH_SECONDS} s")

    def ask(mirror):
        try:
            requests.head(mirror + name, timeout=REACH_SECONDS).raise_for_status()
            reasons[mirror] = ""
        except OSError as error:
            reasons[mirror] = f"{type(error).__name__}"

    askers = [threading.Thread(target=ask, args=[mirror], daemon=True) for mirror in mirrors]
    for asker in askers:
        asker.start()
    deadline = time.monotonic() + REACH_SECONDS
    for asker in askers:
        asker.join(max(0, deadline - time.monotonic()))
    return [mirror for mirror in mirrors if not reasons[mirror]], reasons
