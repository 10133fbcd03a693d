"""The networks that the report page takes from run folders, without a browser."""

import base64
import json
import re
import zipfile
import zlib

from support import files, layer_lists, metrics, plots, tables
from support.page.network import worked
from support.page.network.export import packed
from support.page.network.images import image_groups
from support.page.network.networks import LAB_MNIST, UnusableError, read_network, to_bfloat16
from support.page.network.section import network
from support.read_runs import Record
from support.run import HISTORY_COLUMNS

import numpy as np
import pytest
import student_layers
from right_layers import LoopFC

import bare_layers
import fast_layers
import layers
import nn
import report
import train

NAMES = [str(digit) for digit in range(10)]


class Images:
    """As much of a data.Dataset as a run's list of layers asks for."""

    class_names, mean, std = NAMES, np.float32(0.25), np.float32(1)

    def __init__(self, shape=(1, 28, 28)):
        self.test_x = np.zeros((2, *shape), np.float32)


def small_net(seed=0, shape=(3, 11, 9), classes=10):
    """A network with another stride, padding and pool than the lab's, for images H != W."""
    rng = np.random.default_rng(seed)
    net = [layers.Convolution(np.zeros((1, *shape), np.float32), 5, 3, "first", rng=rng)]
    net += [layers.MaxPooling(net[-1], "pool", 3, 2)]
    net += [layers.Convolution(net[-1], 8, 3, "second", "VALID", stride=2, rng=rng)]
    net += [layers.ReLU(net[-1], "relu")]
    net += [layers.Flatten(net[-1], "flat")]
    net += [layers.FC(net[-1], 40, "hidden", rng=rng)]
    net += [layers.ReLU(net[-1], "relu again")]
    net += [layers.FC(net[-1], classes, "out", rng=rng)]
    for layer in net:
        if layer.has_params:
            layer.bias += rng.standard_normal(layer.bias.shape).astype(np.float32)
    return net


def lab_net(seed=0):
    return train.build_net(layers, 1, np.random.default_rng(seed))


def write_network(folder, net, images=None, listed=True, valid_acc=0.5):
    """As much of a run's folder as its network needs."""
    images = images or Images(net[0].input_shape[1:])
    (folder / "page").mkdir(parents=True)
    if listed:
        layer_lists.write(folder, net, images, nn.parameters(net))
    files.write_arrays(folder / "model.npz", {**nn.parameters(net), "mean": images.mean})
    files.write_json(folder / "results.json", {"status": "finished", "test_acc": 0.5})
    row = dict.fromkeys(HISTORY_COLUMNS, 0.5) | {"epoch": 1, "valid_acc": valid_acc}
    tables.write_table(folder / "history.csv", HISTORY_COLUMNS, [row])
    return folder


def write_tests(folder, shape, names=NAMES):
    """What a run's test leaves of its images: each has one value in all its pixels."""
    K = len(names)
    counts = np.ones((K, K), int)
    counts[0, 1], counts[2, 2] = 7, 0
    rows = [
        {"true": name, **dict(zip(names, row, strict=True))}
        for name, row in zip(names, counts.tolist(), strict=True)
    ]
    tables.write_table(folder / "confusion_matrix.csv", ["true", *names], rows)
    values = np.arange(K * K * 3).reshape(K, K * 3, 1, 1, 1) % 251
    tiles = np.broadcast_to(values, (K, K * 3, *shape[1:], shape[0])).astype(np.uint8)
    plots.draw_tiles(folder / "page" / "confusion_examples.png", tiles)
    worst = metrics.worst_mistakes(np.eye(K)[[1, 2, 3]], np.array([0, 0, 0]), names, 20)
    tables.write_table(folder / "worst_20.csv", metrics.MISTAKE_COLUMNS, worst)
    plots.draw_tiles(folder / "page" / "worst_20_images.png", tiles[:1, :3])


def rounded(net):
    """The network with its parameters as the page keeps them."""
    for array in nn.parameters(net).values():
        array[...] = to_bfloat16(array)
    return net


def read(folder, name="model.npz"):
    return read_network(Record(folder), name)


# --- weights ------------------------------------------------------------------------------------


def test_a_weight_keeps_the_upper_half_of_its_bits_rounded_half_to_even():
    bits = np.array([0x3F800000, 0x3F808000, 0x3F818000, 0x3F80FFFF, 0xBF808001, 0], np.uint32)
    expected = [0x3F800000, 0x3F800000, 0x3F820000, 0x3F810000, 0xBF810000, 0]
    assert to_bfloat16(bits.view(np.float32)).view(np.uint32).tolist() == expected


def test_the_block_of_a_network_has_its_weights_in_the_order_of_the_layers(tmp_path):
    net = small_net()
    spec = json.loads(packed(read(write_network(tmp_path / "train", net))))
    octets = np.frombuffer(zlib.decompress(base64.b64decode(spec["weights"])), np.uint8)
    halves = octets.reshape(2, -1).astype(np.uint32)
    weights = (halves[1] << 24 | halves[0] << 16).view(np.float32)
    expected = np.concatenate([array.ravel() for array in nn.parameters(rounded(net)).values()])
    np.testing.assert_array_equal(weights, expected)
    assert spec["input"] == [3, 11, 9]
    assert [layer["kind"] for layer in spec["layers"]] == [
        "conv", "pool", "conv", "relu", "flatten", "fc", "relu", "fc",
    ]  # fmt: skip
    assert spec["layers"][2] == {
        "name": "second", "kind": "conv", "F": 8, "k": 3, "pad": 0, "stride": 2,
    }  # fmt: skip


def test_the_labs_network_has_room(tmp_path):
    assert len(packed(read(write_network(tmp_path / "train", lab_net())))) < 2_300_000


@pytest.mark.parametrize("make", [lab_net, small_net])
def test_the_worked_example_computes_as_layers_py(make, tmp_path, rng):
    net = make()
    found = read(write_network(tmp_path / "train", net))
    image = rng.integers(256, size=net[0].input_shape[1:], dtype=np.uint8)
    outs = worked.forward(found, image)
    expected = image[None] / np.float32(255) - Images.mean
    np.testing.assert_allclose(outs[0], expected[0], atol=1e-6)
    for layer, out in zip(rounded(net), outs[1:], strict=True):
        expected = layer.forward(expected)
        np.testing.assert_allclose(out, expected[0], atol=1e-4)


def test_rounded_weights_give_the_same_answers(rng):
    """Of a network that has learned; by hand on the test images of MNIST and CIFAR-10, see
    RESULTS.md."""
    net, loss = small_net(shape=(1, 12, 12)), layers.SoftmaxCrossEntropyWithLogits()
    labels = rng.integers(10, size=400)
    x = rng.standard_normal((10, 1, 12, 12))[labels] + 0.5 * rng.standard_normal((400, 1, 12, 12))
    x, y = x.astype(np.float32), np.eye(10, dtype=np.float32)[labels]
    for _ in range(20):
        for start in range(0, 400, 50):
            logits = nn.forward_pass(net, x[start : start + 50])
            grads = nn.backward_pass(net, loss, logits, y[start : start + 50])
            nn.sgd_update_params(grads, {"lr": 0.05})
    before = nn.predict(net, x, 100).argmax(axis=1)
    after = nn.predict(rounded(net), x, 100).argmax(axis=1)
    assert np.mean(before == labels) > 0.5
    assert np.mean(before == after) > 0.9


# --- which layers a run had ---------------------------------------------------------------------


@pytest.mark.parametrize("module", [layers, fast_layers, bare_layers, student_layers])
def test_a_run_knows_its_layers_whoever_wrote_them(module):
    net = train.build_net(module, 2, np.random.default_rng(0))
    listed = layer_lists.layer_list(net, (2, 1, 28, 28))
    assert listed == layer_lists.layer_list(lab_net(), (1, 1, 28, 28)) == LAB_MNIST


def test_what_is_derived_from_a_layer_is_one_and_what_is_not_has_its_own_name():
    class Dropout:
        name, shape = "drop", (1, 3)

    x = np.zeros((1, 4))
    assert layer_lists.layer_list([LoopFC(x, 3, "fc"), Dropout()], x.shape) == [
        {"name": "fc", "kind": "fc", "F": 3},
        {"name": "drop", "kind": "Dropout"},
    ]


def test_a_run_of_an_earlier_version_is_shown_if_it_has_the_labs_network(tmp_path):
    folder = write_network(tmp_path / "train", lab_net(), listed=False)
    with pytest.raises(UnusableError, match="its last layer"):
        read(folder)  # the names of its classes are those of the confusion matrix
    write_tests(folder, (1, 28, 28))
    found = read(folder)
    assert (found.classes, found.mean) == (NAMES, [0.25])
    with pytest.raises(UnusableError, match="an earlier version made this run"):
        read(folder, "initial.npz")
    (folder / "model.npz").unlink()
    with pytest.raises(UnusableError, match="it comes at the end of a run"):
        read(folder, "initial.npz")


# --- what cannot be shown -----------------------------------------------------------------------


def nan(folder):
    arrays = files.read_arrays(folder / "model.npz")
    arrays["0.first.weights"][1, 2] = np.nan
    files.write_arrays(folder / "model.npz", arrays)


def texts(folder):
    arrays = files.read_arrays(folder / "model.npz")
    arrays["0.first.weights"] = arrays["0.first.weights"].astype("U9")
    files.write_arrays(folder / "model.npz", arrays)


def bomb(folder):
    with zipfile.ZipFile(folder / "model.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(400_000))


def cut_short(folder):
    path = folder / "model.npz"
    path.write_bytes(path.read_bytes()[:-40])


def layer(number, **values):
    def change(folder):
        described = files.read_json(folder / "page" / "network.json")
        described["layers"][number].update(values)
        files.write_json(folder / "page" / "network.json", described)

    return change


def described(**values):
    def change(folder):
        path = folder / "page" / "network.json"
        files.write_json(path, files.read_json(path) | values)

    return change


DAMAGE = {
    "no model": (lambda folder: (folder / "model.npz").unlink(), "it comes at the end of a run"),
    "a larger PyTorch network": (
        lambda folder: (folder / "model.npz").rename(folder / "model.pt"),
        "it is in model.pt alone",
    ),
    "a foreign model": (
        lambda folder: files.write_arrays(folder / "model.npz", {"a": np.zeros(3)}),
        r"expected 0.first.weights of shape \(5, 27\), got nothing",
    ),
    "cut short": (cut_short, "model.npz cannot be read"),
    "no zip": (lambda folder: (folder / "model.npz").write_bytes(b"\0" * 99), "cannot be read"),
    "a bomb": (bomb, "400,000 bytes when unpacked"),
    "NaN": (nan, "0.first.weights has values that are no finite numbers"),
    "texts": (texts, "0.first.weights has values that are no finite numbers"),
    "no list": (lambda folder: (folder / "page/network.json").write_text("{"), "cannot be read"),
    "another kind": (layer(3, kind="BatchNorm"), "a layer of the kind BatchNorm"),
    "no kind": (layer(3, kind=["conv"]), "a layer of the kind"),
    "a size": (layer(0, k=0), "sizes of its layer first are damaged"),
    "a huge padding": (layer(0, pad=10**9), "sizes of its layer first are damaged"),
    "half a padding": (layer(0, pad=0.5), "sizes of its layer first are damaged"),
    "another stride": (layer(2, stride=1), r"expected 5.hidden.weights of shape"),
    "more filters": (layer(0, F=6), r"expected 0.first.weights of shape \(6, 27\), got \(5, 27\)"),
    "a large pool": (layer(1, size=99), "its layer pool does not fit"),
    "not flat": (layer(4, kind="relu"), "its layer hidden does not fit"),
    "classes": (described(classes=NAMES[:9]), "not its classes"),
    "numbers for classes": (described(classes=list(range(10))), "not its classes"),
    "no mean": (described(mean=[]), "how its images were normalised"),
    "texts for a mean": (described(mean=["0", "0", "0"]), "how its images were normalised"),
    "a huge image": (described(input=[3, 10**6, 10**6]), "what it says of its layers is damaged"),
    "no deviation": (described(deviation=[0.0, 1.0, 1.0]), "how its images were normalised"),
    "input": (described(input=[3, 11]), "what it says of its layers is damaged"),
    "layers": (described(layers="conv"), "what it says of its layers is damaged"),
    "a layer": (described(layers=[1]), "a layer of the kind None"),
    "no layers": (described(layers=[]), "its last layer"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_cannot_be_shown_is_a_sentence(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("support.page.network.networks.MAX_ARRAY_BYTES", 300_000)
    spoil, said = DAMAGE[kind]
    folder = write_network(tmp_path / "train", small_net())
    spoil(folder)
    with pytest.raises(UnusableError, match=said):
        read(folder)
    section = network(tmp_path)
    assert "network-1" not in [one["id"] for one in section["shown"]]
    assert re.match("Task 1, after training: no network to show; .*", section["sentences"][0])


def test_the_page_is_there_without_networks(tmp_path):
    write_network(tmp_path / "train", small_net())
    nan(tmp_path / "train")
    html = report.write_page(tmp_path).read_text(encoding="utf-8")
    assert "Task 1, after training: no network to show; 0.first.weights has values" in html
    assert 'id="network-1"' not in html
    assert 'id="network-1-initial"' in html


@pytest.mark.parametrize("limit", ["PARAMETERS", "PRODUCTS"])
def test_a_network_may_be_too_large(limit, tmp_path, monkeypatch):
    folder = write_network(tmp_path / "train", small_net())
    expected = sum(row.multiply_adds for row in nn.size_rows(small_net()))
    assert read(folder).num_products == expected
    monkeypatch.setattr(f"support.page.network.networks.MAX_{limit}", 100)
    with pytest.raises(UnusableError, match=f"{limit.lower()}.*, and the page takes 100"):
        read(folder)


# --- the section --------------------------------------------------------------------------------


@pytest.fixture
def save_dir(tmp_path):
    """A save folder with all runs that have networks, small ones."""
    names = ["train", *(f"train_l2reg/lambda_{value}" for value in ("0.001", "0.01", "0.1"))]
    for name in [*names, "pytorch_mnist"]:
        folder = write_network(tmp_path / name, small_net(), valid_acc=0.9 - 0.1 * ("1" in name))
        write_tests(folder, (3, 11, 9))
    write_network(tmp_path / "train_l2reg" / "lambda_0.01.1", small_net(), valid_acc=0.99)  # aside
    path = tmp_path / "train_l2reg" / "lambda_0.01"
    row = dict.fromkeys(HISTORY_COLUMNS, 0.5) | {"valid_acc": 0.95}
    tables.write_table(path / "history.csv", HISTORY_COLUMNS, [row])
    write_network(tmp_path / "pytorch_cifar", small_net(shape=(3, 12, 12)))
    return tmp_path


def test_by_default_the_trained_ones_are_shown_and_that_of_before(save_dir):
    ids = [one["id"] for one in network(save_dir)["index"]]
    assert ids == ["network-1", "network-4", "network-1-initial", "network-2-0.01"]
    ids = {one["id"] for one in network(save_dir, "all")["index"]}
    assert ids == {
        "network-1", "network-4", "network-1-initial", "network-2-0.001", "network-2-0.01",
        "network-2-0.1", "network-3",
    }  # fmt: skip
    assert network(save_dir, "none") is None


def test_the_option_says_which(save_dir, capsys):
    report.run(report.Config(save_dir=str(save_dir), networks="all"))
    assert 'id="network-3"' in (save_dir / "report.html").read_text(encoding="utf-8")
    report.run(report.Config(save_dir=str(save_dir), networks="none"))
    html = (save_dir / "report.html").read_text(encoding="utf-8")
    assert 'id="network' not in html
    capsys.readouterr()


def test_that_a_test_had_more_views_is_said(save_dir):
    assert not any(one["note"] for one in network(save_dir)["index"])
    files.write_json(save_dir / "pytorch_cifar" / "config.json", {"views": True})
    (note,) = filter(None, (one["note"] for one in network(save_dir)["index"]))
    assert note.startswith("Task 4: its test takes the mean over shifted and mirrored images")


def test_what_has_no_room_is_said(save_dir, monkeypatch):
    size = len(packed(read(save_dir / "train")))
    monkeypatch.setitem(network.__globals__["ROOM"], "default", size + 10)
    shown = network(save_dir)
    assert [one["id"] for one in shown["index"]] == ["network-1"]
    assert len(shown["sentences"]) == 3
    assert all("left out" in sentence for sentence in shown["sentences"])


def test_names_of_classes_end_no_script(tmp_path):
    images = Images((3, 11, 9))
    images.class_names = ["</script><b>", *NAMES[1:]]
    write_network(tmp_path / "train", small_net(), images)
    html = report.write_page(tmp_path).read_text(encoding="utf-8")
    assert "</script><b>" not in html
    block = re.search(r'id="network-1">(.*?)</script>', html)[1]
    assert json.loads(block)["classes"][0] == "</script><b>"


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 12, 12)])
def test_images_to_choose_from_are_those_of_the_test(shape, tmp_path):
    folder = write_network(tmp_path / "train", small_net(shape=shape))
    write_tests(folder, shape)
    groups = {title: rest for title, *rest in image_groups(Record(folder), read(folder))}
    assert list(groups) == ["recognized", "taken for another class", "the 3 worst mistakes"]
    labels, images = groups["recognized"]
    assert labels == [name for name in NAMES if name != "2"]  # of which none was recognized
    assert images.shape == (9, *shape)
    # in row i of the picture there are 30 tiles, three for each cell
    assert images[:, 0, 0, 0].tolist() == [33 * i % 251 for i in range(10) if i != 2]
    labels, images = groups["taken for another class"]
    assert (labels[0], images[0].max()) == ("0, taken for 1", 3)  # the most frequent one
    labels, images = groups["the 3 worst mistakes"]
    assert labels[0].startswith("0, taken for 1 (23.2%)")
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_images_of_another_size_are_left_out(tmp_path):
    folder = write_network(tmp_path / "train", small_net())
    write_tests(folder, (3, 8, 8))
    assert image_groups(Record(folder), read(folder)) == []


def test_the_worked_example_says_what_the_network_answers(tmp_path, rng):
    net = small_net()
    found = read(write_network(tmp_path / "train", net))
    image = rng.integers(256, size=(3, 11, 9), dtype=np.uint8)
    example = worked.worked_example(found, image, "7")
    logits = nn.forward_pass(rounded(net), image[None] / np.float32(255) - Images.mean)[0]
    (name, logit, share), *_ = example["best"]
    largest = example["largest"]
    out = net[0].forward(image[None] / np.float32(255) - Images.mean)[0]
    assert out[largest["map"], largest["row"], largest["column"]] == out.max()
    assert largest["sum"] + largest["bias"] == pytest.approx(out.max(), abs=1e-4)
    assert largest["products"] == 27
    assert name == NAMES[logits.argmax()]
    assert logit == pytest.approx(logits.max(), abs=1e-4)
    assert share == pytest.approx(1 / np.exp(logits - logits.max()).sum(), abs=1e-4)
    fields = [row["receptive_field"] for row in example["layers"]]
    expected = [row.receptive_field for row in nn.size_rows(net)]
    assert fields == [1, *expected, None]
    sizes = [row["num_params"] for row in example["layers"]]
    assert sizes == [0, *(row.num_params for row in nn.size_rows(net)), 0]
