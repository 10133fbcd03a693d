"""The passes of support/page/network/forward.js in Chromium against layers.py.

Skipped where no Chromium is.
"""

import base64

from support import files

import numpy as np
import pytest
import test_report_browser
from test_network_export import lab_net, rounded, small_net, write_network

import nn
import report

browser = test_report_browser.browser
NUM_IMAGES, AT_ONCE = 100, 20
NETS = {"lab": lab_net, "small": small_net}

# what every script of this file begins with
BEGIN = """
const done = arguments[arguments.length - 1];
const text = floats => {
  const octets = new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength);
  let characters = "";
  for (let i = 0; i < octets.length; i += 8192)
    characters += String.fromCharCode(...octets.subarray(i, i + 8192));
  return btoa(characters);
};
const floats = text => new Float32Array(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
const failed = error => done({error: String(error)});
window.opened ??= {};
const [id, image, ...more] = arguments;
(async () => {
  const net = window.opened[id] ??= await Network.open(id);
  const x = floats(image);
"""
END = "})().catch(failed);"


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """A page with both networks, opened."""
    save_dir = tmp_path_factory.mktemp("networks")
    for name, make in (("train", lab_net), ("pytorch_cifar", small_net)):
        write_network(save_dir / name, make())
    report.write_page(save_dir)
    test_report_browser.look(browser, save_dir)
    return browser


@pytest.fixture(params=NETS)
def net(request):
    """A network as the page has it: (id of its block, the layers)."""
    id = {"lab": "network-1", "small": "network-4"}[request.param]
    return id, rounded(NETS[request.param]())


def call(page, id, x, body, *more):
    """What a body that calls done(...) returns; net and x are known in it."""
    found = page.execute_async_script(BEGIN + body + END, id, as_text(x), *more)
    assert not isinstance(found, dict) or "error" not in found, found
    return found


def as_text(x):
    return base64.b64encode(np.asarray(x, "<f4").tobytes()).decode()


def as_floats(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


def images_for(layers, number, seed=0):
    """Images with many equal pixels, as digits have: zeros beside others."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((number, *layers[0].input_shape[1:])).astype(np.float32)
    images[rng.random(images.shape) < 0.5] = -0.13
    return images


def softmax(logits):
    exps = np.exp(logits - logits.max())
    return exps / exps.sum()


def test_the_outputs_of_all_layers_are_those_of_layers_py(page, net):
    id, layers = net
    images = images_for(layers, NUM_IMAGES)
    largest = 0
    for start in range(0, NUM_IMAGES, AT_ONCE):
        x = images[start : start + AT_ONCE]
        body = """
          const size = net.input.reduce((a, b) => a * b), all = [];
          for (let i = 0; i < x.length; i += size)
            all.push(Network.forward(net, x.slice(i, i + size)).slice(1).map(text));
          done(all);
        """
        found = call(page, id, x, body)
        out = x
        for place, layer in enumerate(layers):
            out = layer.forward(out)
            ours = np.stack([as_floats(outs[place]) for outs in found]).reshape(out.shape)
            np.testing.assert_allclose(ours, out, rtol=0, atol=1e-4, err_msg=layer.name)
            largest = max(largest, np.abs(ours - out).max())
        for outs, logits in zip(found, out, strict=True):
            assert len(outs) == len(layers) + 1
            np.testing.assert_allclose(as_floats(outs[-1]), softmax(logits), atol=1e-5)
    print(f"{id}: the largest difference is {largest:.1e}")


def test_the_sizes_of_the_layers_are_those_of_the_summary(page, net):
    id, layers = net
    body = "done(net.layers.map(l => [l.name, l.shape, l.numParams, l.receptiveField]));"
    *rows, last = call(page, id, np.zeros(1), body)
    assert rows == [
        [row.name, list(row.output), row.num_params, row.receptive_field]
        for row in nn.size_rows(layers)
    ]
    assert last == ["softmax", [10], 0, None]


def test_the_gradient_is_that_of_the_backward_pass(page, net):
    id, layers = net
    for number, x in enumerate(images_for(layers, 5, seed=1)):
        body = "done(text(Network.gradient(net, Network.forward(net, x), more[0])));"
        found = as_floats(call(page, id, x, body, number)).reshape(x.shape)
        nn.forward_pass(layers, x[None])
        grad = np.eye(10, dtype=np.float32)[[number]]
        for layer in reversed(layers):
            grad = layer.backward_inputs(grad)
        np.testing.assert_allclose(found, grad[0], rtol=0, atol=1e-4 * np.abs(grad).max())
        assert np.abs(grad).max() > 0


def test_the_gradient_says_what_a_small_change_does(page):
    """Numerically, in double precision; along the gradient itself, where no window is tied."""
    id, layers = "network-4", rounded(small_net())
    for parameter_layer in layers:
        if parameter_layer.has_params:
            parameter_layer.weights = parameter_layer.weights.astype(np.float64)
    x = np.random.default_rng(2).standard_normal((1, 3, 11, 9))
    body = "done(text(Network.gradient(net, Network.forward(net, x), 3)));"
    gradient = as_floats(call(page, id, x, body)).reshape(x.shape).astype(np.float64)
    step = 1e-6 * gradient
    up, down = (nn.forward_pass(layers, x + sign * step)[0, 3] for sign in (1, -1))
    assert (up - down) / 2e-6 == pytest.approx(np.sum(gradient**2), rel=1e-3)


def test_covering_takes_down_what_numpy_says(page):
    id, layers = "network-4", rounded(small_net())
    x = images_for(layers, 1)[0]
    body = """
      const found = Network.occlusion(net, x, 2, 4, 3);
      done([text(found.values), found.rows, found.columns]);
    """
    values, rows, columns = call(page, id, x, body)
    assert (rows, columns) == (3, 2)
    seen = nn.forward_pass(layers, x[None])[0, 2]
    for place, value in enumerate(as_floats(values)):
        row, column = divmod(place, columns)
        covered = x.copy()
        covered[:, 3 * row : 3 * row + 4, 3 * column : 3 * column + 4] = 0
        assert value == pytest.approx(seen - nn.forward_pass(layers, covered[None])[0, 2], abs=1e-4)


def test_the_terms_of_a_value_add_up_to_it(page, net):
    """The arithmetic of some values of each layer, done here from what terms says of it."""
    id, layers = net
    x = images_for(layers, 1)[0]
    body = """
      const outs = Network.forward(net, x);
      done(net.layers.map((layer, i) => [0, 0.13, 0.5, 0.77, 1].map(share => {
        const index = Math.round(share * (layer.numOutputs - 1));
        const terms = Network.terms(net, outs, i, index);
        for (const key in terms) if (ArrayBuffer.isView(terms[key])) terms[key] = [...terms[key]];
        return {...terms, index, out: outs[i + 1][index]};
      })));
    """
    for layer, found in zip([*layers, None], call(page, id, x, body), strict=True):
        for terms in found:
            assert terms["result"] == terms["out"]
            value = computed(terms)
            assert value == pytest.approx(terms["out"], abs=1e-4), (layer and layer.name, terms)
            if layer is not None and len(layer.shape) == 4:
                place = np.ravel_multi_index([terms[key] for key in "cyx"], layer.shape[1:])
                assert place == terms["index"]


def computed(terms):
    kind = terms["kind"]
    if kind == "conv":
        np.testing.assert_allclose(
            np.multiply(terms["patch"], terms["filter"]), terms["products"], rtol=1e-5
        )
        assert sum(terms["products"]) == pytest.approx(terms["sum"], abs=1e-4)
        return terms["sum"] + terms["bias"]
    if kind == "pool":
        assert terms["winner"] == int(np.argmax(terms["values"]))
        return terms["values"][terms["winner"]]
    if kind == "relu":
        return max(terms["value"], 0)
    if kind == "fc":
        largest = terms["largest"]
        sizes = [abs(term["product"]) for term in largest]
        assert sizes == sorted(sizes, reverse=True)
        assert len(sizes) == min(10, terms["numInputs"])
        for term in largest:
            assert term["value"] * term["weight"] == pytest.approx(term["product"], abs=1e-5)
        total = sum(term["product"] for term in largest) + terms["rest"]
        assert total == pytest.approx(terms["sum"], abs=1e-4)
        return terms["sum"] + terms["bias"]
    if kind == "softmax":
        assert sum(terms["exps"]) == pytest.approx(terms["sum"])
        return terms["exp"] / terms["sum"]
    return terms["value"]


def test_a_value_depends_on_nothing_outside_its_window(page, net):
    """All that is outside is changed, in the image and in each layer before."""
    id, layers = net
    x = images_for(layers, 1)[0]
    body = """
      const outs = Network.forward(net, x), wrong = [];
      const from = (start, values) => {  // the layers from there on, for other values
        const part = {...net, layers: net.layers.slice(start + 1)};
        return Network.forward(part, values);
      };
      net.layers.forEach((layer, i) => [0, 0.3, 0.61, 1].forEach(share => {
        const index = Math.round(share * (layer.numOutputs - 1));
        const windows = Network.sources(net, i, ...Network.place(layer.shape, index));
        windows.slice(0, -1).forEach(({channels, clipped: [top, left, bottom, right]}, j) => {
          const shape = j ? net.layers[j - 1].shape : net.input, changed = outs[j].slice();
          let kept = 0;
          for (let n = 0; n < changed.length; n++) {
            const [c, y, x] = Network.place(shape, n);
            const isSeen = y >= top && y < bottom && x >= left && x < right;
            if (isSeen && c >= channels[0] && c < channels[1]) kept++;
            else changed[n] += 5;
          }
          const area = (channels[1] - channels[0]) * (bottom - top) * (right - left);
          const isSame = from(j - 1, changed)[i - j + 1][index] === outs[i + 1][index];
          if (kept !== area || !isSame) wrong.push([layer.name, index, j, kept, area]);
        });
      }));
      done(wrong);
    """
    assert call(page, id, x, body) == []


def test_a_window_at_an_edge_reaches_beyond_it_in_full(page):
    body = "done([Network.sources(net, 3, 7, 0, 13), Network.sources(net, 7, 100, 0, 0)]);"
    of_map, of_vector = call(page, "network-1", np.zeros(784), body)
    assert [window["full"] for window in of_map] == [
        [-6, 20, 8, 34], [-4, 22, 6, 32], [-2, 11, 3, 16], [-2, 11, 3, 16], [0, 13, 1, 14],
    ]  # fmt: skip
    assert of_map[0]["clipped"] == [0, 20, 8, 28]
    assert [window["channels"] for window in of_map] == [[0, 1], [0, 16], [0, 16], [0, 16], [7, 8]]
    assert of_vector[0]["clipped"] == [0, 0, 28, 28]
    assert of_vector[-1]["channels"] == [100, 101]


def test_images_are_normalised_as_for_the_training(page):
    pixels = np.random.default_rng(0).integers(256, size=(3, 11, 9))
    body = "done(text(Network.normalised(net, x)));"
    found = as_floats(call(page, "network-4", pixels, body)).reshape(pixels.shape)
    np.testing.assert_allclose(found, pixels / 255 - 0.25, atol=1e-6)


def test_how_long_it_takes_is_said(page):
    body = """
      const times = [];
      for (let i = 0; i < 20; i++) {
        const start = performance.now();
        Network.forward(net, x);
        times.push(performance.now() - start);
      }
      done(times.sort((a, b) => a - b));
    """
    times = call(page, "network-1", np.ones(784), body)
    print(
        f"from a drawing to probabilities {times[0]:.1f} ms at best, {times[10]:.1f} ms as a rule"
    )
    assert len(times) == 20


def test_nothing_is_said_in_the_console(page):
    assert test_report_browser.messages(page) == []
