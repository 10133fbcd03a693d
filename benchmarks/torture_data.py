"""Give the readers of data what was made to cost them most, and stop them in the middle.

    python3 benchmarks/torture_data.py               # all of it, about ten minutes
    python3 benchmarks/torture_data.py --only batches archives

Batches and archives: what they cost is printed, in seconds, and in memory beyond the bytes of the
file; none may be read, and none may take more than MOST_MEMORY and five times its bytes. Caches:
bits flipped, and bytes cut off or added; none may be believed. Downloads: the process is killed at
a random moment; nothing may lie there but the whole file, and the next one has to bring it. Limits:
a training with few open files or little memory ends well or in lines without a traceback. Stops:
the same for Ctrl-C, from the moment on when `support` is imported.
"""

import argparse
import contextlib
import gzip
import hashlib
import http.server
import io
import multiprocessing
import resource
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from support import cifar10_batches, cifar10_files, data, standins
from support.start import ROOT

MOST_MEMORY = 100e6  # bytes
# a dict with a list of twice a list of twice a list ..., whose last one, 2**60 in all, is h<
NESTED = b"}U\4junk(]q\0" + b"".join(b"(h%ch%clq%c" % (n, n, n + 1) for n in range(60)) + b"ls"


def cost(function, *args):
    """What function(*args) says, its seconds, and the most memory that it took besides."""

    def measured(results):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.perf_counter()
        try:
            function(*args)
            said = "READ"
        except data.DataError as error:
            said = str(error)
        seconds = time.perf_counter() - begun
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        results.put((said, seconds, 1024 * (after - before)))

    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=measured, args=[results])
    process.start()
    answer = results.get(timeout=600)
    process.join()
    return answer


def report(title, size, said, seconds, memory):
    assert said != "READ", title
    assert "\n" not in said, said
    assert memory < MOST_MEMORY + 5 * size, f"{title}: {memory / 1e6:.0f} MB"
    print(f"{title:32} {size:12,} bytes {seconds:6.2f} s {memory / 1e6:7.1f} MB  {said[-60:]}")


def hostile_batches():
    """Pickles by what they try."""
    text = b"X" + struct.pack("<I", 10_000_000) + b"a" * 10_000_000 + b"q\0"
    array = b"cnumpy.core.multiarray\n_reconstruct\n)R(I1\nh<cnumpy\ndtype\n(U\2u1tRI00\nU\0tb"
    alike = b"".join(b"I%d\nN" % ((n + 1) * (2**61 - 1)) for n in range(90_000))
    wide = "\U0001f600".encode() + b"a" * 50_000_000
    return {
        "nested shape": b"\x80\2" + NESTED + b"U\4data" + array + b"sU\6labels]s.",
        "nested name": b"\x80\2" + NESTED + b"h<h<\x93.",
        "nested key": b"\x80\2" + NESTED + b"h<Ns.",
        "keys that hash alike": b"\x80\2}(" + alike + b"u.",
        "one text as 90,000 keys": b"\x80\2}(" + text + b"N" + b"h\0N" * 90_000 + b"u.",
        "5,000,000 empty lists": b"\x80\2](" + b"]" * 5_000_000 + b"e.",
        "lists as deep as may be": b"\x80\2" + b"]" * 90_000 + b"a" * 89_999 + b".",
        "as many values as may be": b"\x80\2](" + b"]q\0" * 66_000 + b"e.",
        "places as many as may be": b"\x80\4" + b"]\x94" * 99_000 + b".",
        "wide text": b"\x80\2X" + struct.pack("<I", len(wide)) + wide + b".",
        "a number of 50,000,000 digits": b"I" + b"9" * 50_000_000 + b"\n.",
        "a name of 50,000,000 letters": b"c" + b"a" * 50_000_000 + b"\nb\n.",
        "room for 2**31 places": b"\x80\2Nr" + struct.pack("<I", 2**31 - 1) + b".",
        "room for a terabyte": b"\x80\5\x96" + struct.pack("<Q", 2**40) + b".",
    }


def batches(options, rng):
    for title, content in hostile_batches().items():
        report(title, len(content), *cost(cifar10_batches.parse_cifar10_batch, content, "batch"))


def hostile_archives():
    """Archives by what they try; those of gzip are written packed."""

    def member(name, size=0, kind=tarfile.REGTYPE, content=b""):
        info = tarfile.TarInfo(name)
        info.size, info.type = size or len(content), kind
        return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)

    batch = member("data_batch_1", content=bytes(100_000_000))
    digits = member("x", kind=tarfile.XHDTYPE, content=b"1" * 8_000_000)
    return {
        "a name of 300 MB": member("x", 300_000_000, b"L") + bytes(300_000_000),
        "a header of 8,000,000 digits": digits + member("y"),
        "300,000 members": member("x") * 300_000,
        "headers before headers": member("x", kind=b"L", content=b"y") * 100_000,
        "a member of 8 GB": member("x", 2**33 - 1),
        "zeros behind it": bytes(1_000_000_000),
        "the same batch three times": batch * 3,
        "a sparse map": member("x", kind=b"x", content=b"27 GNU.sparse.map=1,2,3,a,\n"),
    }


def archives(options, rng):
    for title, content in hostile_archives().items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, cifar10_files.CIFAR10_ARCHIVE)
            path.write_bytes(gzip.compress(content, 6))
            size = path.stat().st_size
            del content
            if "batch" in title:  # what a batch may take, it takes: a name, its content, no more
                size += cifar10_files.BATCH_LIMIT
            report(title, size, *cost(cifar10_files.find_cifar10, Path(folder)))


def caches(options, rng):
    believed = 0
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        standins.generated_digits(folder, 300, 100)
        (path,) = Path(folder, "generated").iterdir()
        good = path.read_bytes()
        for number in range(options.flips):
            content = bytearray(good)
            content[rng.integers(len(content))] ^= 1 << rng.integers(8)
            if number % 10 == 0:
                del content[int(rng.integers(len(content))) :]
            elif number % 10 == 1:
                content += rng.bytes(int(rng.integers(1, 100)))
            path.write_bytes(content)
            believed += standins._kept(path, (28, 28), 400) is not None
    assert believed == 0
    print(f"caches: {options.flips} damaged, none believed, no traceback")


FETCH = """
import sys
sys.path.insert(0, sys.argv[1])
from support import downloads
downloads.download({"file": sys.argv[2]}, [sys.argv[3]], sys.argv[4])
"""


@contextlib.contextmanager
def slow_server(content):
    """A web server that takes about a second for content. Gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(OSError):
                for start in range(0, len(content) if self.command == "GET" else 0, 100_000):
                    self.wfile.write(content[start : start + 100_000])
                    time.sleep(0.01)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def downloads(options, rng):
    content = rng.bytes(10_000_000)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    come = 0
    with slow_server(content) as address, tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        for _ in range(options.kills):
            command = [sys.executable, "-c", FETCH, str(ROOT), md5, address, folder]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0.3, 2.5))
            process.kill()
            process.wait()
            parts = [p for p in Path(folder).iterdir() if p.name.startswith(".part-")]
            assert len(parts) <= 1, parts
            if path.exists():
                assert path.read_bytes() == content
                path.unlink()
                come += 1
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        assert [p.name for p in Path(folder).iterdir()] == ["file"]
    print(f"downloads: {options.kills} killed or done, {come} had come whole, none in part")


SMALL = "--dataset synthetic --train-size 200 --epochs 1 --threads 1".split()  # noqa: SIM905


def ends(command, **kwargs):
    """The status of a command, and what it says; killed after two minutes."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, **kwargs)
    except subprocess.TimeoutExpired:  # OpenBLAS asks for memory for ever
        return "none, killed", ""
    return done.returncode, done.stderr


def limits(options, rng):
    memory = [int(mb * 1e6) for mb in (100, 150, 200, 300, 500, 700, 1000, 1500)]
    for name, kind, values in (
        ("ulimit -n", resource.RLIMIT_NOFILE, (5, 6, 8, 12, 16, 32, 64, 128)),
        ("ulimit -v", resource.RLIMIT_AS, memory),
    ):
        for value in values:
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, ROOT / "train.py", *SMALL, "--save-dir", folder]
                limit = lambda: resource.setrlimit(kind, (value, value))  # noqa: B023, E731
                status, said = ends(command, preexec_fn=limit)
            assert "Traceback" not in said, said
            last = (said.splitlines() or [""])[-1][:90]
            print(f"{name} {value:,}: status {status} {last}", flush=True)


def stops(options, rng):
    ready = "import support, os; os.write(1, b'x'); "
    for script in ("check_grads.py", "report.py", "pytorch_mnist.py"):
        run = f"import runpy; runpy.run_path({script!r}, run_name='__main__')"
        quiet = 0
        for _ in range(options.stops):
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "-c", ready + run, "--save-dir", folder]
                command += ["--help"] if "pytorch" in script else []
                process = subprocess.Popen(
                    command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
                process.stdout.read(1)
                time.sleep(rng.uniform(0, 0.8))
                process.send_signal(signal.SIGINT)
                _, said = process.communicate()
            assert "Traceback" not in said, said
            quiet += said.endswith(": stopped\n")
        print(
            f"{script}: {options.stops} times Ctrl-C, {quiet} stopped in one line, the others done"
        )


PARTS = {f.__name__: f for f in (batches, archives, caches, downloads, limits, stops)}


def main(argv=None):
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=PARTS, help="[all]")
    parser.add_argument("--flips", type=int, default=3_000, help="damaged caches [3000]")
    parser.add_argument("--kills", type=int, default=50, help="of downloads [50]")
    parser.add_argument("--stops", type=int, default=30, help="of each script [30]")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random here [0]")
    options = parser.parse_args(argv)
    for name in options.only:
        PARTS[name](options, np.random.default_rng(options.seed))


if __name__ == "__main__":
    main()
