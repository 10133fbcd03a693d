import errno
import gzip
import http.server
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
import zlib
from pathlib import Path

from support import (
    cifar10_batches,
    cifar10_files,
    data,
    data_files,
    downloads,
    mnist_files,
    standins,
)
from support.cifar10_files import CIFAR10_ARCHIVE, CIFAR10_FILES

import numpy as np
import pytest

from conftest import ROOT


def idx(array):
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(
        f">{array.ndim}i", *array.shape
    )
    return header + array.astype(np.uint8, copy=False).tobytes()


# --- IDX files ----------------------------------------------------------------------------------


def test_parse_idx_by_hand():
    content = bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])
    assert mnist_files.parse_idx(content, "labels").tolist() == [7, 8, 9]
    images = np.arange(24).reshape(2, 3, 4)
    assert np.array_equal(mnist_files.parse_idx(idx(images), "images"), images)


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
        mnist_files.parse_idx(content, "file")
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
            assert mnist_files.parse_idx(content, "file").nbytes <= len(content)
        except data.DataError:
            refused += 1
    assert 0 < refused < 2_000


# --- MNIST on disk ------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch):
    def refuse(files, mirrors, folder):
        raise data_files.NotFoundError("no network")

    monkeypatch.setattr(downloads, "download", refuse)


@pytest.fixture
def mnist_dir(tmp_path, no_network):
    """Files with MNIST's names and sizes, but other images."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, (_, _, count) in mnist_files.MNIST_FILES.items():
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


@pytest.fixture
def few_drawn(monkeypatch):
    """Stand-ins of as many images as ever, but all of them black."""

    def black(num, seed, shape, draw):
        return np.zeros((num, *shape), np.uint8), np.zeros(num, np.uint8)

    monkeypatch.setattr(standins, "_draw_in_chunks", black)
    monkeypatch.setattr(standins, "_glyph_distances", lambda: None)


@pytest.mark.parametrize("load", [data.load_mnist, data.load_cifar10])
def test_missing_data_is_an_error_only_where_it_was_asked_for(
    tmp_path, no_network, few_drawn, capsys, load
):
    with pytest.raises(data.DataError, match="no network"):
        load(tmp_path, "mnist" if load is data.load_mnist else "cifar10")
    assert load(tmp_path, "auto", train_size=100).provenance == "generated"
    assert " instead\n" in capsys.readouterr().err


MNIST_PLACES = [
    "MNIST/raw/{}",
    "MNIST/raw/{}.gz",
    "MNIST/raw/{0}/{0}",
    "mnist/{}",
    "MNIST/{}.gz",
    "raw/{}.GZ",
    "{}",
    "{}.gz",
    "{0}/{0}",
    "{0}/{0}.gz",
    "Mnist/{0}/{0}",
]


@pytest.mark.parametrize("place", MNIST_PLACES)
@pytest.mark.parametrize("rename", ["{}", "-idx -> .idx", "upper"])
def test_mnist_is_found_where_unpackers_leave_it(tmp_path, no_network, place, rename):
    expected = {}
    for name in mnist_files.MNIST_FILES:
        renamed = name.replace("-idx", ".idx") if "idx" in rename else name
        renamed = renamed.upper() if rename == "upper" else renamed
        expected[name] = tmp_path / place.format(renamed)
        expected[name].parent.mkdir(parents=True, exist_ok=True)
        expected[name].touch()
        expected[name].with_name(f"._{renamed}").touch()  # as macOS leaves on foreign disks
    assert mnist_files.find_mnist(tmp_path) == expected


def test_of_several_copies_the_one_in_its_place_is_taken(tmp_path):
    for place in MNIST_PLACES[:2] + MNIST_PLACES[6:8]:
        for name in mnist_files.MNIST_FILES:
            path = tmp_path / place.format(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    found = mnist_files.find_mnist(tmp_path)
    assert found == {name: tmp_path / "MNIST" / "raw" / name for name in mnist_files.MNIST_FILES}


def test_the_data_of_others_is_not_taken_for_mnist_but_named(tmp_path, no_network):
    for name in mnist_files.MNIST_FILES:  # other data sets have files of the same names
        path = tmp_path / "FashionMNIST" / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name in ("train-images.idx3-ubyte", "mnist.zip", "holiday.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(
        data_files.NotFoundError, match="no network; what lies there is not"
    ) as error:
        mnist_files.find_mnist(tmp_path)
    message = str(error.value)
    assert all(str(tmp_path / n) in message for n in ("mnist.zip", "train-images.idx3-ubyte"))
    assert "holiday" not in message
    assert "\n" not in message


def test_packed_or_not_is_read_from_the_content(tmp_path):
    for name, content in (("a.gz", b"plain"), ("b", gzip.compress(b"plain"))):
        (tmp_path / name).write_bytes(content)
        assert data_files.read_bytes(tmp_path / name, limit=5) == b"plain"
    with pytest.raises(data.DataError, match="b is larger than 4 bytes when unpacked"):
        data_files.read_bytes(tmp_path / "b", limit=4)


@pytest.mark.parametrize("load", [data.load_mnist, data.load_cifar10])
@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("data_dir is a file", "data is a file, expected a folder"),
        ("a folder where a file is expected", "{} is not a file"),
        ("a link to nothing", "{} is not a file"),
        ("an empty file", "{} is no.* (an empty file|Ran out of input|pickle exhausted.*)$"),
        ("may not be read", "{} cannot be read: .*denied"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_in_one_line(
    tmp_path, no_network, monkeypatch, load, trouble, message
):
    mnist = load is data.load_mnist
    folder = tmp_path / "data"
    names = [f"{n}.gz" for n in mnist_files.MNIST_FILES] if mnist else CIFAR10_FILES
    paths = [folder / ("MNIST/raw" if mnist else "cifar-10-batches-py") / name for name in names]
    if trouble == "data_dir is a file":
        folder.touch()
    else:
        paths[0].parent.mkdir(parents=True)
    for path in [] if trouble == "data_dir is a file" else paths:
        if "folder" in trouble:
            path.mkdir()
        elif "link" in trouble:
            path.symlink_to(tmp_path / "nothing")
        else:
            path.touch()
    if "read" in trouble:  # root may read all

        def denied(path, *args):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(data.DataError, match=message.format(paths[0].name)) as error:
        load(folder, "auto")
    assert "\n" not in str(error.value)


def test_a_folder_that_may_not_be_listed_is_named(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(data.DataError, match=f"{tmp_path} cannot be read: Permission denied"):
        data.load_mnist(tmp_path)


@pytest.mark.parametrize("name", [b"caf\xe9", "č š".encode(), b"line\\n"])
def test_a_folder_of_any_name_also_behind_a_link(tmp_path, no_network, few_drawn, name, capsys):
    folder = tmp_path / os.fsdecode(name)
    try:
        folder.mkdir()
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    for _ in range(2):  # the second time from its cache
        digits = data.load_mnist(tmp_path / "link", "auto", train_size=10)
    assert digits.provenance == "generated"
    assert len(list(folder.glob("generated/*.bin"))) == 1
    with pytest.raises(data.DataError):
        data.load_mnist(folder, "mnist")


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
        images = rng.integers(256, size=cifar10_batches.CIFAR10_BATCH_SHAPE, dtype=np.uint8)
    labels = rng.integers(10, size=len(images)).tolist() if labels is None else labels
    return pickle.dumps({"data": images, "labels": labels, "filenames": ["a.png"]}, protocol)


@pytest.mark.parametrize("protocol", range(6))
def test_parse_a_batch(protocol):
    images, labels = cifar10_batches.parse_cifar10_batch(batch_pickle(protocol=protocol), "batch")
    expected = pickle.loads(batch_pickle())
    assert np.array_equal(images, expected["data"])
    assert labels.tolist() == expected["labels"]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("module", ["numpy._core", "numpy.core"])
def test_a_batch_pickled_anew_with_bytes_for_names(protocol, module):
    """What pickle.load(file, encoding="bytes") gives, as the data's home page advises."""
    images = np.arange(30_720_000, dtype=np.uint8).reshape(cifar10_batches.CIFAR10_BATCH_SHAPE)
    batch = {b"batch_label": b"1 of 5", b"labels": [7] * 10_000, b"data": images}
    batch[b"filenames"] = [b"%d.png" % number for number in range(10_000)]
    content = pickle.dumps(batch, protocol)
    if protocol < 4:  # later ones have the length of a name before it
        content = content.replace(b"numpy._core", module.encode())
    read, labels = cifar10_batches.parse_cifar10_batch(content, "batch")
    assert np.array_equal(read, images)
    assert labels.tolist() == [7] * 10_000


def test_a_batch_of_protocol_5_that_may_not_be_written_to():
    images = np.full(cifar10_batches.CIFAR10_BATCH_SHAPE, 9, np.uint8)
    images.flags.writeable = False  # its bytes are another opcode
    read, _ = cifar10_batches.parse_cifar10_batch(batch_pickle(images, protocol=5), "batch")
    assert np.array_equal(read, images)


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
    yield b"]" * 1_000_000 + b"."  # 56 bytes of memory each
    twice = b"".join(b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86\x94" for n in range(1, 60))
    twice = b"\x80\x04}\x94N\x85\x94" + twice  # tuples of 2**60 in all: for ever to hash
    yield twice + b"Ns."
    yield from nested_pickles()
    yield b"\x80\x05\x97\x98."  # NEXT_BUFFER, READONLY_BUFFER: from outside of the pickle
    for function in (b"_frombuffer", b"_reconstruct", b"array", b"__builtins__"):
        yield b"cnumpy._core.numeric\n" + function + b"\n(N(U\x01xtt."
    yield b"c_codecs\nencode\n}(S'__defaults__'\nNtb."
    yield b"cnumpy\nndarray\n}b."  # BUILD on a class of ours


def nested_pickles():
    """Pickles of a few bytes with a list of twice a list of twice a list ..., 2**60 in all, where
    something may print, compare or hash it."""
    for kind in (b"l", b"t"):  # lists, tuples
        values = b"(N" + kind + b"q\0"
        values += b"".join(b"(h%ch%c%cq%c" % (n, n, kind[0], n + 1) for n in range(60))
        nested = b"\x80\2}U\4junk(" + values + b"ls"  # and h< is the last of them
        array = b"cnumpy.core.multiarray\n_reconstruct\n)R"
        array += b"(I1\nh<cnumpy\ndtype\n(U\2u1tRI00\nU\0tb"
        yield nested + b"U\4data" + array + b"sU\6labels]s."
        yield nested + b"U\4datah<sU\6labelsh<s."
        yield nested + b"h<Ns."
        yield nested + b"h<h<\x93."
        yield nested + b"h<)R."
        yield nested + b"c_codecs\nencode\nh<Rh<b."
        yield nested + b"h<."


def test_hostile_pickles_are_refused_and_nothing_runs(tmp_path):
    marker = tmp_path / "marker"
    pickles = list(hostile_pickles(marker))
    assert len(pickles) >= 72
    for content in pickles:
        with pytest.raises(data.DataError, match="no CIFAR-10 batch") as error:
            cifar10_batches.parse_cifar10_batch(content, "batch")
        assert "\n" not in str(error.value)
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_opcode_in_a_batch_takes_no_memory(protocol):
    import tracemalloc

    good = batch_pickle(np.zeros(cifar10_batches.CIFAR10_BATCH_SHAPE, np.uint8), protocol=protocol)
    room = b"Nr" + struct.pack("<I", 2**28) + b"0"  # 2 GB for places of values
    tracemalloc.start()
    with pytest.raises(data.DataError, match="place 268435456"):
        cifar10_batches.parse_cifar10_batch(room + good, "batch")
    assert tracemalloc.get_traced_memory()[1] < 3 * len(good)
    tracemalloc.stop()


def test_text_is_not_encoded_over_and_over():
    """60 bytes of a pickle could ask for a copy of the pixels each, if they were."""
    import tracemalloc

    text = b"X" + struct.pack("<I", 10_000_000) + b"a" * 10_000_000 + b"q\0X\6\0\0\0latin1q\1"
    call = b"c_codecs\nencode\nh\0h\1\x86R"
    content = b"\x80\x02](" + text + call * 1_000 + b"e."
    tracemalloc.start()
    with pytest.raises(data.DataError, match="no CIFAR-10 batch"):
        cifar10_batches.parse_cifar10_batch(content, "batch")
    assert tracemalloc.get_traced_memory()[1] < 5 * len(content)
    tracemalloc.stop()


@pytest.mark.parametrize("key", [b"I%d\n", b"c_codecs\nencode\n(h\0U\1atR", b"h\0"])
def test_keys_are_neither_hashed_nor_copied(key):
    """Numbers that hash alike take quadratic time in a dict, and texts take memory if encoded."""
    text = b"X" + struct.pack("<I", 10_000_000) + b"a" * 10_000_000 + b"q\0"
    keys = b"N".join(key % ((n + 1) * (2**61 - 1)) if b"%" in key else key for n in range(20_000))
    content = b"\x80\x02}(" + text + b"N" + keys + b"Nu."
    with pytest.raises(data.DataError, match="expected a dict with data and labels"):
        cifar10_batches.parse_cifar10_batch(content, "batch")


@pytest.mark.parametrize("opcode", [b"]", b"(", b"}\x94"])
def test_many_values_take_no_more_memory_than_the_images(opcode):
    import tracemalloc

    content = b"\x80\x04" + opcode * 5_000_000 + b"."
    tracemalloc.start()
    with pytest.raises(data.DataError, match="it has more than 200,000 opcodes"):
        cifar10_batches.parse_cifar10_batch(content, "batch")
    assert tracemalloc.get_traced_memory()[1] < 40_000_000
    tracemalloc.stop()


@pytest.fixture
def small_batches(monkeypatch):
    """Batches of 1,200 images instead of 10,000."""
    monkeypatch.setattr(cifar10_batches, "CIFAR10_BATCH_SHAPE", (1_200, 3_072))


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.usefixtures("small_batches")
def test_mutated_batches_are_read_or_refused(rng, protocol):
    good = batch_pickle(np.zeros(cifar10_batches.CIFAR10_BATCH_SHAPE, np.uint8), protocol=protocol)
    places = [*range(300), *range(len(good) - 3_600, len(good))]  # all but the pixels
    refused = 0
    for _ in range(200):
        content = bytearray(good)
        for _ in range(rng.integers(1, 4)):
            content[rng.choice(places)] = rng.integers(256)
        if rng.random() < 0.2:
            content = content[: rng.integers(len(content))]
        try:
            images, labels = cifar10_batches.parse_cifar10_batch(bytes(content), "batch")
            assert images.shape == cifar10_batches.CIFAR10_BATCH_SHAPE
            assert labels.shape == (1_200,)
            assert labels.max() < 10
        except data.DataError:
            refused += 1
    assert 0 < refused <= 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (batch_pickle(np.zeros((5, 3072), np.uint8)), r"expected images .* got \(5, 3072\)"),
        (batch_pickle(labels=[0] * 9_999), "expected a list of 10000 labels"),
        (batch_pickle(labels=[10] * 10_000), "expected labels from 0 to 9"),
        (batch_pickle(np.zeros(cifar10_batches.CIFAR10_BATCH_SHAPE, np.int8)), "unsigned bytes"),
        (pickle.dumps([1, 2]), "no CIFAR-10 batch"),
        (b"<html>", "no CIFAR-10 batch"),
        (b"", "no CIFAR-10 batch"),
        (batch_pickle()[:-1000], "no CIFAR-10 batch"),
    ],
)
def test_what_is_no_batch_is_refused(content, message):
    with pytest.raises(data.DataError, match=message):
        cifar10_batches.parse_cifar10_batch(content, "batch")


def test_a_copy_of_cifar10_is_used_and_marked(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in CIFAR10_FILES:
        (folder / name).write_bytes(batch_pickle())
    cifar = data.load_cifar10(tmp_path, "cifar10", train_size=1000)
    assert cifar.provenance == "unverified copy"
    assert cifar.train_x.shape == (1000, 3, 32, 32)
    assert len(cifar.valid_x) == 5_000
    assert cifar.train_x.mean(axis=(0, 2, 3)) == pytest.approx([0, 0, 0], abs=1e-3)
    assert cifar.train_x.std(axis=(0, 2, 3)) == pytest.approx([1, 1, 1], abs=1e-3)
    image = pickle.loads(batch_pickle())["data"][7].reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(cifar.pixels(cifar.test_x[7:8])[0], image)


def test_the_training_images_that_there_are():
    arrays = (
        np.zeros((n, *shape), np.uint8) for n in (50_000, 10_000) for shape in ((3, 32, 32), ())
    )
    with pytest.raises(data.DataError, match="there are 45000 training images, got 45001"):
        data._cifar10_dataset(list(arrays), "generated", standins.SHAPES, 45_001)


@pytest.mark.parametrize(
    "folder",
    [
        "cifar-10-batches-py",
        "cifar-10-batches-py/cifar-10-batches-py",
        "cifar-10-python/cifar-10-batches-py",
        "CIFAR10/cifar-10-python.tar/cifar-10-python/cifar-10-batches-py",
        "",
    ],
)
@pytest.mark.parametrize("ending", ["", ".bin"])
def test_cifar10_is_found_where_unpackers_leave_it(tmp_path, folder, ending):
    place = tmp_path / folder
    place.mkdir(parents=True, exist_ok=True)
    for name in CIFAR10_FILES:
        (place / f"{name}{ending}").write_bytes(name.encode())
    files = cifar10_files.find_cifar10(tmp_path)
    assert files == {
        f"{name}{ending}": (place / f"{name}{ending}", name.encode()) for name in CIFAR10_FILES
    }


@pytest.mark.parametrize(
    ("archive", "mode"),
    [
        ("cifar-10-python.tar.gz", "w:gz"),
        ("cifar-10-python.tar", "w:"),
        ("cifar-10-python.tar.gz", "w:"),  # unpacked by a browser, under the old name
        ("cifar-10-python/CIFAR-10-python.tgz", "w:gz"),
        ("cifar-10-binary.tar.gz", "w:gz"),
    ],
)
@pytest.mark.parametrize("folder", ["cifar-10-batches-py/", "./cifar-10-batches-py/", "", "a/b/c/"])
def test_cifar10_in_archives_of_any_kind(tmp_path, archive, mode, folder):
    ending = ".bin" if "binary" in archive else ""
    (tmp_path / archive).parent.mkdir(exist_ok=True)
    with tarfile.open(tmp_path / archive, mode) as tar:
        for name in CIFAR10_FILES:
            member = tarfile.TarInfo(f"{folder}{name}{ending}")
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    files = cifar10_files.find_cifar10(tmp_path)
    assert {n: content for n, (_, content) in files.items()} == {
        f"{name}{ending}": name.encode() for name in CIFAR10_FILES
    }
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / archive]


def tar_member(name, size=0, kind=tarfile.REGTYPE, link=""):
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, link
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lacks some or all of data_batch_1, "),
        (b"<html>", "cannot be read"),
        (b"\x1f\x8b<html>", "cannot be read"),
        (gzip.compress(tar_member("notes.txt"))[:-4], "cannot be read"),
        (tar_member("notes.txt"), "lacks some or all of data_batch_1, "),
        (tar_member("notes.txt") * 100_000, "more than 10,000 files are in it"),
        (tar_member("x", 2**40, tarfile.XHDTYPE), "more than 400,000,000 bytes are in it"),
        (tar_member("x", 2**33, tarfile.GNUTYPE_LONGNAME), "more than 400,000,000 bytes"),
        (tar_member("x", 300_000_000) * 2, "lacks some or all"),  # it ends before
        (tar_member("x", -1), "more than"),
        (b"".join(tar_member(n, 2**33) for n in CIFAR10_FILES), "more than 400,000,000 bytes"),
        (tar_member("data_batch_1", 200_000_000), "data_batch_1 is no file of a batch's size"),
        (
            b"".join(tar_member(n, 0, tarfile.SYMTYPE, "/etc/passwd") for n in CIFAR10_FILES),
            "data_batch_1 is no file of a batch's size",
        ),
    ],
)
def test_a_damaged_or_hostile_archive_is_refused_in_one_line(tmp_path, content, message):
    (tmp_path / CIFAR10_ARCHIVE).write_bytes(content)
    with pytest.raises(data.DataError, match=message) as error:
        data.load_cifar10(tmp_path, "auto")
    assert "\n" not in str(error.value)
    assert str(tmp_path / CIFAR10_ARCHIVE) in str(error.value)


def pax_member(name, content, **headers):
    """A tar member with a pax header before it."""
    member = tarfile.TarInfo(name)
    member.size, member.pax_headers = len(content), headers
    return member.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def test_an_archive_of_members_with_pax_headers_and_long_names(tmp_path):
    """What tarfile makes of these headers may be a ValueError, and may take seconds."""
    headers = {"GNU.sparse.map": "x,y", "GNU.sparse.size": "z", "comment": "1" * 100_000}
    content = b"".join(pax_member(name, name.encode(), **headers) for name in CIFAR10_FILES)
    (tmp_path / CIFAR10_ARCHIVE).write_bytes(tar_member("x" * 5_000) + content)
    files = cifar10_files.find_cifar10(tmp_path)
    assert {n: content for n, (_, content) in files.items()} == {
        name: name.encode() for name in CIFAR10_FILES
    }


def test_a_small_archive_takes_little_memory(tmp_path):
    """60 kB of gzip, which unpack to a file name of 60 MB."""
    import tracemalloc

    content = tar_member("x", 60_000_000, tarfile.GNUTYPE_LONGNAME) + b"x" * 60_000_000
    (tmp_path / CIFAR10_ARCHIVE).write_bytes(gzip.compress(content, 1))
    del content
    tracemalloc.start()
    with pytest.raises(data.DataError, match="lacks some or all of"):
        data.load_cifar10(tmp_path, "auto")
    assert tracemalloc.get_traced_memory()[1] < 30_000_000  # Python's own tables grow by leaps
    tracemalloc.stop()


def test_what_is_not_all_of_cifar10_is_named(tmp_path, no_network):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [*CIFAR10_FILES][:3]:
        (folder / name).touch()
    for name in ("cifar-10-python.zip", "cifar-100-python.tar.gz", "other"):
        (tmp_path / name).touch()
    with pytest.raises(
        data_files.NotFoundError, match="no network; what lies there is not"
    ) as error:
        cifar10_files.find_cifar10(tmp_path)
    assert all(n in str(error.value) for n in ("data_batch_3", "10-python.zip", "cifar-100"))
    assert "other" not in str(error.value)


def test_parse_a_binary_batch():
    rows = np.arange(30_730_000, dtype=np.uint8).reshape(10_000, 3_073)
    rows[:, 0] = np.arange(10_000) % 10
    images, labels = cifar10_files.parse_binary_batch(rows.tobytes(), "data_batch_1.bin")
    assert np.array_equal(images, rows[:, 1:])
    assert labels.tolist() == [*range(10)] * 1_000
    with pytest.raises(data.DataError, match=r"bin is no .* 30,730,000 bytes, got 30,729,999"):
        cifar10_files.parse_binary_batch(rows.tobytes()[1:], "data_batch_1.bin")
    rows[5, 0] = 10
    with pytest.raises(data.DataError, match="expected labels from 0 to 9"):
        cifar10_files.parse_binary_batch(rows.tobytes(), "data_batch_1.bin")


def test_the_binary_version_is_an_unverified_copy(tmp_path):
    batch = np.zeros((10_000, 3_073), np.uint8)
    batch[:, 1] = 9  # the upper left pixel, red
    for name in cifar10_files.CIFAR10_BINARY_FILES:
        (tmp_path / name).write_bytes(batch.tobytes())
    cifar = data.load_cifar10(tmp_path, "auto", train_size=10)
    assert cifar.provenance == "unverified copy"
    pixels = cifar.pixels(cifar.test_x[:1])
    assert pixels[0, 0, 0].tolist() == [9, 0, 0]
    assert pixels.sum() == 9


def test_generated_shapes(tmp_path, few_drawn):
    shapes = data.load_cifar10(tmp_path, "synthetic")
    assert shapes.provenance == "generated"
    assert shapes.train_x.shape == (45_000, 3, 32, 32)


def test_shapes_are_the_same_for_the_same_seed():
    images, labels = standins.draw_shapes(3_000, seed=3)
    again, same = standins.draw_shapes(3_000, seed=3)
    assert np.array_equal(images, again)
    assert np.array_equal(labels, same)
    assert np.bincount(labels).min() > 200


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
    httpd.handle_error = lambda *_: None  # who stalls finds the line cut, maybe in a later test
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
    downloads.download({"file": GOOD[1]}, mirrors, tmp_path / "new")
    assert (tmp_path / "new" / "file").read_bytes() == GOOD[0]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_nothing_is_left_of_a_download_that_was_stopped(server, tmp_path, monkeypatch):
    import pooch

    def stop(downloader, url, path, _):
        Path(path).write_bytes(GOOD[0][:3])
        raise KeyboardInterrupt

    address, answers = server
    answers["/good/file"] = (200, GOOD[0])
    (tmp_path / ".part-1-file").write_bytes(GOOD[0][:5])  # that of an earlier one, which was killed
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pooch.HTTPDownloader, "__call__", stop)
        downloads.download({"file": GOOD[1]}, [f"{address}good/"], tmp_path)
    assert not list(tmp_path.iterdir())
    downloads.download({"file": GOOD[1]}, [f"{address}good/"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_download_names_every_mirror_and_its_reason(server, tmp_path):
    address, answers = server
    answers["/html/file"] = (200, b"<html>")
    mirrors = [f"{address}absent/", f"{address}html/"]
    with pytest.raises(data_files.NotFoundError) as error:
        downloads.download({"file": GOOD[1]}, mirrors, tmp_path / "MNIST" / "raw")
    message = str(error.value)
    assert all(mirror in message for mirror in mirrors)
    assert "hash" in message
    assert "\n" not in message
    assert not list(tmp_path.rglob("*"))


def test_a_mirror_that_stalls_is_left(server, tmp_path, monkeypatch):
    address, answers = server
    monkeypatch.setattr(downloads, "STALL_SECONDS", 2)
    answers["/stall/file"] = (200, GOOD[0])
    answers["/good/file"] = (200, GOOD[0])
    downloads.download({"file": GOOD[1]}, [f"{address}stall/", f"{address}good/"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("denied", ["mkdir", "write"])
def test_a_folder_that_cannot_be_written_is_said_before_a_mirror_is_asked(
    tmp_path, monkeypatch, few_drawn, capsys, denied
):
    def read_only(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    def asked(*args):
        raise AssertionError

    if denied == "write":
        (tmp_path / "MNIST" / "raw").mkdir(parents=True)
        monkeypatch.setattr(downloads.tempfile, "TemporaryFile", read_only)
    monkeypatch.setattr(Path, "mkdir", read_only)
    monkeypatch.setattr(downloads, "_answering", asked)
    message = "is missing and cannot be written: Read-only file system"
    for load, dataset in ((data.load_mnist, "mnist"), (data.load_cifar10, "cifar10")):
        with pytest.raises(data.DataError, match=message):
            load(tmp_path, dataset)
        assert load(tmp_path, "auto", train_size=10).provenance == "generated"
        warnings = capsys.readouterr().err.splitlines()
        assert len(warnings) == 2
        assert message in warnings[0]
        assert "not kept" in warnings[1]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("no flock")]
)
def test_a_file_system_without_locks_is_done_without(server, tmp_path, monkeypatch, error):
    import filelock

    def no_locks(*args, **kwargs):
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", no_locks)
    address, answers = server
    answers["/good/file"] = (200, GOOD[0])
    downloads.download({"file": GOOD[1]}, [f"{address}good/"], tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_who_does_not_hold_the_lock_leaves_it(server, tmp_path, monkeypatch):
    from filelock import FileLock

    monkeypatch.setattr(downloads, "LOCK_SECONDS", 0.1)
    address, answers = server
    answers["/good/file"] = (200, GOOD[0])
    with FileLock(tmp_path / ".download.lock"):
        downloads.download({"file": GOOD[1]}, [f"{address}good/"], tmp_path)
        assert (tmp_path / ".download.lock").exists()


FETCH = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support import downloads
downloads.download({"file": sys.argv[2]}, [sys.argv[3]], Path(sys.argv[4]))
"""


def test_four_processes_at_once_download_once(server, tmp_path):
    address, answers = server
    answers["/good/file"] = (200, GOOD[0])
    folder = tmp_path / "new"
    arguments = [str(ROOT), GOOD[1], f"{address}good/", folder]
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
    monkeypatch.setattr(downloads, "REACH_SECONDS", 0.3)
    with pytest.raises(data_files.NotFoundError, match=r"no answer within 0\.3 s"):
        downloads.download({"file": GOOD[1]}, ["http://a/", "http://b/"], tmp_path)
    assert not ended
    released.set()


# --- the stand-in -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def glyphs():
    return standins._glyph_distances()


@pytest.fixture
def glyphs_once(glyphs, monkeypatch):
    """Drawing the fonts takes longer than the digits."""
    monkeypatch.setattr(standins, "_glyph_distances", lambda: glyphs)


def test_generated_digits_are_the_same_for_the_same_seed(tmp_path, glyphs_once):
    first = standins.generated_digits(tmp_path, 30, 10, seed=1)
    cached = standins.generated_digits(tmp_path, 30, 10, seed=1)
    again = standins.generated_digits(tmp_path / "elsewhere", 30, 10, seed=1)
    other = standins.generated_digits(tmp_path, 30, 10, seed=2)
    assert first[0].shape == (30, 28, 28)
    assert first[2].shape == (10, 28, 28)
    for a, b, c in zip(first, cached, again, strict=True):
        assert np.array_equal(a, b)
        assert np.array_equal(a, c)
    assert not np.array_equal(first[0], other[0])


CACHE_DAMAGE = {
    "cut off": lambda content: content[:1000],
    "longer": lambda content: content + b"x",
    "empty": lambda content: b"",
    "a bit of the images": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "a bit of the labels": lambda content: content[:-5] + b"\0" + content[-4:],
    "a bit of the checksum": lambda content: content[:-1] + bytes([content[-1] ^ 128]),
    "a label of 200, with its checksum": lambda content: with_checksum(content[:-5] + b"\xc8"),
    "a zip bomb": lambda content: gzip.compress(bytes(10_000_000)),
    "another format": lambda content: b"\x93NUMPY\1\0" + content[8:],
}


def with_checksum(content):
    return content + zlib.crc32(content).to_bytes(4)


@pytest.mark.parametrize("damage", CACHE_DAMAGE.values(), ids=CACHE_DAMAGE)
def test_a_damaged_cache_is_said_and_drawn_anew(tmp_path, glyphs_once, capsys, damage):
    first = standins.generated_digits(tmp_path, 30, 10)
    (path,) = (tmp_path / "generated").iterdir()
    good = path.read_bytes()
    assert good[-5]  # the last label
    path.write_bytes(damage(good))
    capsys.readouterr()
    again = standins.generated_digits(tmp_path, 30, 10)
    assert all(np.array_equal(a, b) for a, b in zip(again, first, strict=True))
    assert capsys.readouterr().err == f"warning: {path} is damaged; it is drawn anew\n"
    assert path.read_bytes() == good


def test_every_flipped_bit_of_a_cache_is_noticed(tmp_path, rng, glyphs_once, capsys):
    standins.generated_digits(tmp_path, 30, 10)
    (path,) = (tmp_path / "generated").iterdir()
    good = path.read_bytes()
    assert standins._kept(path, (28, 28), 40) is not None
    for _ in range(300):
        content = bytearray(good)
        content[rng.integers(len(good))] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        assert standins._kept(path, (28, 28), 40) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_a_pipe_or_a_folder_in_place_of_the_cache_is_done_without(tmp_path, glyphs_once, capsys):
    first = standins.generated_digits(tmp_path, 30, 10)
    (path,) = (tmp_path / "generated").iterdir()
    for make in (Path.mkdir, os.mkfifo):
        path.unlink() if path.is_file() else path.rmdir()
        make(path)
        assert np.array_equal(standins.generated_digits(tmp_path, 30, 10)[0], first[0])
        assert "is damaged" in capsys.readouterr().err


def test_nothing_is_left_of_a_cache_that_was_stopped_while_it_was_written(
    tmp_path, monkeypatch, glyphs_once
):
    def stop(*args):
        raise KeyboardInterrupt

    (tmp_path / "generated").mkdir()
    killed = tmp_path / "generated" / f".part-1-digits_v{standins.STAND_IN_VERSION}_0_40.bin"
    killed.touch()
    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        standins.generated_digits(tmp_path, 30, 10)
    assert not list((tmp_path / "generated").iterdir())


def test_generated_digits_need_no_cache(tmp_path, capsys, glyphs_once):
    (tmp_path / "file").write_text("")
    standins.generated_digits(tmp_path / "file", 5, 5)
    assert "not kept" in capsys.readouterr().err


def test_generated_digits_vary(digits):
    images = digits.pixels(digits.valid_x)
    assert np.bincount(digits.valid_y, minlength=10).min() > 400
    inked = (images > 100).reshape(len(images), -1).mean(axis=1)
    assert 0.02 < np.quantile(inked, 0.05) < np.quantile(inked, 0.95) < 0.5
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)


def test_one_hot():
    assert data.one_hot(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
