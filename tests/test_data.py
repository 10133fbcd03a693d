import gzip
import http.server
import struct
import threading
import time

import numpy as np
import pytest

import data


def idx(array):
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(
        f">{array.ndim}i", *array.shape
    )
    return header + array.astype(np.uint8).tobytes()


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
        array = np.zeros((count, 28, 28)) if "images" in name else rng.integers(10, size=count)
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


def test_missing_data_is_an_error_only_where_it_was_asked_for(tmp_path, no_network, capsys):
    with pytest.raises(data.DataError, match="no network"):
        data.load_mnist(tmp_path, "mnist")
    assert data.load_mnist(tmp_path, "auto", train_size=100).provenance == "generated"
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


# --- downloads ----------------------------------------------------------------------------------


@pytest.fixture
def server():
    """A web server on this machine: paths -> (status, body). Gives its address and the dict."""
    answers = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = answers.get(self.path, (404, b""))
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
        data.download({"file": GOOD[1]}, mirrors, tmp_path)
    message = str(error.value)
    assert all(mirror in message for mirror in mirrors)
    assert "hash" in message
    assert "\n" not in message
    assert not (tmp_path / "file").exists()


def test_a_blocked_network_is_noticed_in_time(monkeypatch, tmp_path):
    """As long as a look-up hangs, so long would the request; only the deadline helps."""
    import requests

    released = threading.Event()

    def hang(*args, **kwargs):
        released.wait(30)
        raise OSError("at last")

    monkeypatch.setattr(requests, "head", hang)
    monkeypatch.setattr(data, "REACH_SECONDS", 0.3)
    start = time.monotonic()
    with pytest.raises(data._NotFoundError, match=r"no answer within 0\.3 s"):
        data.download({"file": GOOD[1]}, ["http://a/", "http://b/"], tmp_path)
    released.set()
    assert time.monotonic() - start < 10


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
