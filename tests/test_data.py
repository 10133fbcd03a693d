import gzip
import http.server
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest

import data


def idx(array):
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(
        f">{array.ndim}i", *array.shape
    )
    return header + array.astype(np.uint8, copy=False).tobytes()


# --- IDX files ----------------------------------------------------------------------------------


def test_parse_idx_by_hand():
    content = bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])
    assert data.parse_idx(content, "labels").tolist() == [7, 8, 9]
    images = np.arange(24).reshape(2, 3, 4)
    assert np.array_equal(data.parse_idx(idx(images), "images"), images)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>", "file is no IDX file.* got 3c 21 44 4f"),
        (idx(np.zeros((2, 3, 4)))[:-1], "truncated or damaged: .* and 23 bytes follow"),
        (idx(np.zeros((2, 3, 4))) + b"x", "and 25 bytes follow"),
        (bytes([0, 0, 8, 3, 0, 0, 0, 1]), "truncated: 8 bytes, its header has 16"),
        (struct.pack(">BBBBi", 0, 0, 8, 1, -3) + b"abc", r"announces \(-3,\)"),
        (struct.pack(">BBBB3i", 0, 0, 8, 3, 2**31 - 1, 2**31 - 1, 2**31 - 1), "and 0 bytes"),
        (bytes([0, 0, 13, 1, 0, 0, 0, 0]), "no IDX file of unsigned bytes"),
    ],
)
def test_damaged_idx_is_refused_in_one_line(content, message):
    with pytest.raises(data.DataError, match=message) as error:
        data.parse_idx(content, "file")
    assert "\n" not in str(error.value)


def test_mutated_idx_is_read_or_refused(rng):
    """Flipped bytes and cut lengths: never another exception, never more bytes than the file."""
    good = bytearray(idx(np.arange(200).reshape(8, 5, 5)))
    refused = 0
    for _ in range(2_000):
        content = good.copy()
        for _ in range(rng.integers(1, 4)):
            content[rng.integers(20)] = rng.integers(256)
        content = bytes(
            content[: rng.integers(len(content) + 1)] if rng.random() < 0.3 else content
        )
        try:
            assert data.parse_idx(content, "file").nbytes <= len(content)
        except data.DataError:
            refused += 1
    assert 0 < refused < 2_000


# --- MNIST on disk ------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch):
    def refuse(files, mirrors, folder):
        raise data._NotFoundError("no network")

    monkeypatch.setattr(data, "download", refuse)


@pytest.fixture
def mnist_dir(tmp_path, no_network):
    """Files with MNIST's names and sizes, but other images."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, (_, _, count) in data.MNIST_FILES.items():
        array = rng.integers(10, size=count)
        if "images" in name:
            array = np.zeros((count, 28, 28), np.uint8)
        array[0] = 5
        if name.startswith("t10k"):
            content = gzip.compress(idx(array), 1)
            (folder / f"{name}.gz").write_bytes(content)
        else:
            (folder / name).write_bytes(idx(array))
    return tmp_path


def test_a_copy_with_other_md5_sums_is_used_and_marked(mnist_dir):
    mnist = data.load_mnist(mnist_dir, "auto")
    assert (mnist.name, mnist.provenance) == ("mnist", "unverified copy")
    assert "unverified" in mnist.note
    assert mnist.train_x.shape == (55_000, 1, 28, 28)
    assert mnist.train_x.dtype == np.float32
    assert [len(y) for y in (mnist.train_y, mnist.valid_y, mnist.test_y)] == [55_000, 5_000, 10_000]
    assert mnist.train_x.mean() == pytest.approx(0, abs=1e-6)
    assert mnist.train_x.max() == pytest.approx(5 / 255, abs=1e-6)
    assert np.array_equal(mnist.pixels(mnist.test_x[:1]), np.full((1, 28, 28, 1), 5))


def test_train_size(mnist_dir):
    assert len(data.load_mnist(mnist_dir, "mnist", train_size=10).train_x) == 10
    with pytest.raises(data.DataError, match="there are 55000 training images, got 55001"):
        data.load_mnist(mnist_dir, "mnist", train_size=55_001)


@pytest.mark.parametrize("dataset", ["auto", "mnist"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("truncated", "truncated or damaged"),
        ("html", "no IDX file"),
        ("labels under images", r"expected an array of \(60000, 28, 28\), got \(60000,\)"),
        ("test under training", r"expected an array of \(60000, 28, 28\), got \(10000, 28, 28\)"),
        ("fewer labels", r"expected an array of \(60000,\), got \(59999,\)"),
        ("label 10", "expected labels from 0 to 9, got 10"),
        ("broken gz", "cannot be read"),
    ],
)
def test_damaged_files_are_refused_also_by_auto(mnist_dir, dataset, damage, message):
    raw = mnist_dir / "MNIST" / "raw"
    images, labels = raw / "train-images-idx3-ubyte", raw / "train-labels-idx1-ubyte"
    packed = raw / "t10k-images-idx3-ubyte.gz"
    if damage == "truncated":
        images.write_bytes(images.read_bytes()[:1_000_000])
    elif damage == "html":
        images.write_text("<html>502 Bad Gateway</html>")
    elif damage == "labels under images":
        images.write_bytes(labels.read_bytes())
    elif damage == "test under training":
        images.write_bytes(gzip.decompress(packed.read_bytes()))
    elif damage == "fewer labels":
        labels.write_bytes(idx(np.zeros(59_999)))
    elif damage == "label 10":
        labels.write_bytes(idx(np.full(60_000, 10)))
    elif damage == "broken gz":
        packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(data.DataError, match=message):
        data.load_mnist(mnist_dir, dataset)


def test_missing_data_is_an_error_only_where_it_was_asked_for(data_dir, no_network, capsys):
    with pytest.raises(data.DataError, match="no network"):
        data.load_mnist(data_dir, "mnist")
    assert data.load_mnist(data_dir, "auto", train_size=100).provenance == "generated"
    assert "training on generated digits instead" in capsys.readouterr().err


def test_official_mnist(real_data_dir):
    mnist = data.load_mnist(real_data_dir, "mnist")
    assert mnist.provenance == "official"
    assert mnist.note == ""
    assert mnist.mean == pytest.approx(0.1307, abs=2e-4)
    assert np.bincount(mnist.test_y).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]


# --- CIFAR-10 -----------------------------------------------------------------------------------


def batch_pickle(images=None, labels=None, protocol=2):
    """A batch as the official files have it, with other images."""
    rng = np.random.default_rng(0)
    if images is None:
        images = rng.integers(256, size=data.CIFAR10_BATCH_SHAPE, dtype=np.uint8)
    labels = rng.integers(10, size=len(images)).tolist() if labels is None else labels
    return pickle.dumps({"data": images, "labels": labels, "filenames": ["a.png"]}, protocol)


@pytest.fixture
def small_batches(monkeypatch):
    """Batches of 1,200 images instead of 10,000: of six, 1,000 images are left to train with."""
    monkeypatch.setattr(data, "CIFAR10_BATCH_SHAPE", (1_200, 3_072))


@pytest.mark.parametrize("protocol", range(5))
def test_parse_a_batch(protocol):
    images, labels = data.parse_cifar10_batch(batch_pickle(protocol=protocol), "batch")
    expected = pickle.loads(batch_pickle())
    assert np.array_equal(images, expected["data"])
    assert labels.tolist() == expected["labels"]


class Evil:
    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def hostile_pickles(marker):
    """Pickles that would do something if they were loaded; and the same hidden in a batch."""
    import builtins
    import subprocess as sub

    calls = [
        (os.system, f"touch {marker}"),
        (sub.call, ["touch", str(marker)]),
        (open, str(marker), "w"),
        (eval, f"open({str(marker)!r}, 'w')"),
        (exec, f"open({str(marker)!r}, 'w')"),
        (getattr, "", "join"),
        (builtins.__import__, "os"),
        (os.mkdir, str(marker)),
        (np.load, "x.npy"),
        (np.ndarray, (10**6, 10**6)),
        (np.zeros, (10**6, 10**6)),
        (bytearray, 10**12),
        (pickle.loads, b""),
    ]
    evils = [Evil(*call) for call in calls]
    for evil in evils:
        yield pickle.dumps(evil)
        yield pickle.dumps({"data": evil, "labels": [0] * 10_000})
        yield pickle.dumps({"data": np.zeros(3), "labels": [evil]})
    module_names = ("os", "sys", "shutil", "socket", "ctypes", "importlib", "numpy.testing")
    for name in module_names:
        yield f"c{name}\nsystem\n(S'touch {marker}'\ntR.".encode()
    yield b"cnumpy\nndarray\n((I1000000000\nI1000000000\nttR."
    yield b"\x80\x04\x8e" + struct.pack("<Q", 2**62)  # BINBYTES8 of 4 exabytes
    yield b"\x80\x05\x96" + struct.pack("<Q", 2**40)  # BYTEARRAY8 of a terabyte
    yield b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1)  # LONG4
    yield b"\x80\x02Nr" + struct.pack("<I", 2**31) + b"."  # LONG_BINPUT: room for 2**31 values
    yield b"Np2147483648\n."  # PUT: the same
    yield b"(" * 100_000 + b"."


def test_hostile_pickles_are_refused_and_nothing_runs(tmp_path):
    marker = tmp_path / "marker"
    pickles = list(hostile_pickles(marker))
    assert len(pickles) >= 50
    for content in pickles:
        with pytest.raises(data.DataError, match="no CIFAR-10 batch") as error:
            data.parse_cifar10_batch(content, "batch")
        assert "\n" not in str(error.value)
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_opcode_in_a_batch_takes_no_memory(protocol):
    import tracemalloc

    good = batch_pickle(np.zeros(data.CIFAR10_BATCH_SHAPE, np.uint8), protocol=protocol)
    room = b"Nr" + struct.pack("<I", 2**28) + b"0"  # 2 GB for places of values
    tracemalloc.start()
    with pytest.raises(data.DataError, match="place 268435456"):
        data.parse_cifar10_batch(room + good, "batch")
    assert tracemalloc.get_traced_memory()[1] < 3 * len(good)
    tracemalloc.stop()


@pytest.mark.usefixtures("small_batches")
def test_mutated_batches_are_read_or_refused(rng):
    good = batch_pickle(np.zeros(data.CIFAR10_BATCH_SHAPE, np.uint8))
    places = [*range(300), *range(len(good) - 3_600, len(good))]  # all but the pixels
    refused = 0
    for _ in range(400):
        content = bytearray(good)
        for _ in range(rng.integers(1, 4)):
            content[rng.choice(places)] = rng.integers(256)
        if rng.random() < 0.2:
            content = content[: rng.integers(len(content))]
        try:
            images, labels = data.parse_cifar10_batch(bytes(content), "batch")
            assert images.shape == data.CIFAR10_BATCH_SHAPE
            assert labels.shape == data.CIFAR10_BATCH_SHAPE[:1]
            assert labels.max() < 10
        except data.DataError:
            refused += 1
    assert 0 < refused <= 400


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (batch_pickle(np.zeros((5, 3072), np.uint8)), r"expected images .* got \(5, 3072\)"),
        (batch_pickle(labels=[0] * 9_999), "expected a list of 10000 labels"),
        (batch_pickle(labels=[10] * 10_000), "expected labels from 0 to 9"),
        (batch_pickle(np.zeros(data.CIFAR10_BATCH_SHAPE, np.int8)), "unsigned bytes"),
        (pickle.dumps([1, 2]), "no CIFAR-10 batch"),
        (b"<html>", "no CIFAR-10 batch"),
        (b"", "no CIFAR-10 batch"),
        (batch_pickle()[:-1000], "no CIFAR-10 batch"),
    ],
)
def test_what_is_no_batch_is_refused(content, message):
    with pytest.raises(data.DataError, match=message):
        data.parse_cifar10_batch(content, "batch")


@pytest.mark.usefixtures("small_batches")
def test_cifar10_from_the_folder_and_from_the_archive(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in data.CIFAR10_FILES:
        (folder / name).write_bytes(batch_pickle())
    cifar = data.load_cifar10(tmp_path, "cifar10", train_size=1000)
    assert cifar.provenance == "unverified copy"
    assert cifar.train_x.shape == (1000, 3, 32, 32)
    assert len(cifar.valid_x) == 5_000
    assert cifar.train_x.mean(axis=(0, 2, 3)) == pytest.approx([0, 0, 0], abs=1e-3)
    assert cifar.train_x.std(axis=(0, 2, 3)) == pytest.approx([1, 1, 1], abs=1e-3)
    image = pickle.loads(batch_pickle())["data"][7].reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(cifar.pixels(cifar.test_x[7:8])[0], image)

    packed = tmp_path / "packed"
    packed.mkdir()
    with tarfile.open(packed / data.CIFAR10_ARCHIVE, "w:gz", compresslevel=0) as tar:
        tar.add(folder, "cifar-10-batches-py")
    again = data.load_cifar10(packed, "cifar10", train_size=1000)
    assert np.array_equal(again.train_x, cifar.train_x)
    assert [path.name for path in packed.iterdir()] == [data.CIFAR10_ARCHIVE]
    with pytest.raises(data.DataError, match="there are 1000 training images"):
        data.load_cifar10(tmp_path, "cifar10", train_size=1_001)
    (packed / data.CIFAR10_ARCHIVE).write_bytes(b"<html>")
    with pytest.raises(data.DataError, match="cannot be read"):
        data.load_cifar10(packed, "auto")


def test_generated_shapes(data_dir):
    shapes = data.load_cifar10(data_dir, "synthetic")
    assert shapes.provenance == "generated"
    assert shapes.train_x.shape == (45_000, 3, 32, 32)
    assert np.bincount(shapes.test_y).min() > 800
    images, labels = data._draw_shapes(50, seed=3)
    again, same = data._draw_shapes(50, seed=3)
    assert np.array_equal(images, again)
    assert np.array_equal(labels, same)


# --- downloads ----------------------------------------------------------------------------------


@pytest.fixture
def server():
    """A web server on this machine: paths -> (status, body). Gives its address and the dict."""
    answers, released = {}, threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = answers.get(self.path, (404, b""))
            asked = f"{self.command} {self.path}"
            answers[asked] = answers.get(asked, 0) + 1
            if self.command == "GET" and "stall" in self.path:
                released.wait(60)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=[0.05])
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}/", answers
    released.set()
    httpd.shutdown()
    thread.join()
    httpd.server_close()


GOOD = (b"content", "9a0364b9e99bb480dd25e1f0284c8555")


def test_download_goes_on_to_the_next_mirror(server, tmp_path):
    address, answers = server
    for mirror in ("html", "cut", "good"):
        answers[f"/{mirror}/file"] = (200, GOOD[0])
    answers["/html/file"] = (200, b"<html>log in first</html>")
    answers["/cut/file"] = (200, b"cont")
    mirrors = [f"{address}{name}/" for name in ("absent", "html", "cut", "good")]
    data.download({"file": GOOD[1]}, mirrors, tmp_path / "new")
    assert (tmp_path / "new" / "file").read_bytes() == GOOD[0]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_download_names_every_mirror_and_its_reason(server, tmp_path):
    address, answers = server
    answers["/html/file"] = (200, b"<html>")
    mirrors = [f"{address}absent/", f"{address}html/"]
    with pytest.raises(data._NotFoundError) as error:
        data.download({"file": GOOD[1]}, mirrors, tmp_path / "MNIST" / "raw")
    message = str(error.value)
    assert all(mirror in message for mirror in mirrors)
    assert "hash" in message
    assert "\n" not in message
    assert not list(tmp_path.rglob("*"))


def test_a_mirror_that_stalls_is_left(server, tmp_path, monkeypatch):
    address, answers = server
    monkeypatch.setattr(data, "STALL_SECONDS", 2)
    answers["/stall/file"] = (200, GOOD[0])
    answers["/good/file"] = (200, GOOD[0])
    data.download({"file": GOOD[1]}, [f"{address}stall/", f"{address}good/"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


FETCH = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import data
data.download({"file": sys.argv[2]}, [sys.argv[3]], Path(sys.argv[4]))
"""


def test_four_processes_at_once_download_once(server, tmp_path):
    address, answers = server
    answers["/good/file"] = (200, GOOD[0])
    folder = tmp_path / "new"
    arguments = [data.__file__.removesuffix("data.py"), GOOD[1], f"{address}good/", folder]
    processes = [subprocess.Popen([sys.executable, "-c", FETCH, *arguments]) for _ in range(4)]
    assert [process.wait(timeout=600) for process in processes] == [0] * 4
    assert (folder / "file").read_bytes() == GOOD[0]
    assert answers["GET /good/file"] == 1
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_a_blocked_network_is_noticed_in_time(monkeypatch, tmp_path):
    """As long as a look-up hangs, so long would the request; only the deadline helps."""
    import requests

    released, ended = threading.Event(), []

    def hang(*args, **kwargs):
        released.wait(300)
        ended.append(args)
        raise OSError("at last")

    monkeypatch.setattr(requests, "head", hang)
    monkeypatch.setattr(data, "REACH_SECONDS", 0.3)
    with pytest.raises(data._NotFoundError, match=r"no answer within 0\.3 s"):
        data.download({"file": GOOD[1]}, ["http://a/", "http://b/"], tmp_path)
    assert not ended
    released.set()


# --- the stand-in -------------------------------------------------------------------------------


def test_generated_digits_are_the_same_for_the_same_seed(tmp_path):
    first = data.generated_digits(tmp_path, 30, 10, seed=1)
    cached = data.generated_digits(tmp_path, 30, 10, seed=1)
    again = data.generated_digits(tmp_path / "elsewhere", 30, 10, seed=1)
    other = data.generated_digits(tmp_path, 30, 10, seed=2)
    assert first[0].shape == (30, 28, 28)
    assert first[2].shape == (10, 28, 28)
    for a, b, c in zip(first, cached, again, strict=True):
        assert np.array_equal(a, b)
        assert np.array_equal(a, c)
    assert not np.array_equal(first[0], other[0])


def test_a_damaged_cache_is_drawn_anew(tmp_path):
    first = data.generated_digits(tmp_path, 30, 10)
    (path,) = (tmp_path / "generated").iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    assert np.array_equal(data.generated_digits(tmp_path, 30, 10)[0], first[0])


def test_generated_digits_need_no_cache(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    data.generated_digits(tmp_path / "file", 5, 5)
    assert "not kept" in capsys.readouterr().err


def test_generated_digits_vary(digits):
    images = digits.pixels(digits.valid_x)
    assert np.bincount(digits.valid_y, minlength=10).min() > 400
    inked = (images > 100).reshape(len(images), -1).mean(axis=1)
    assert 0.02 < np.quantile(inked, 0.05) < np.quantile(inked, 0.95) < 0.5
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)


def test_one_hot():
    assert data.one_hot(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
