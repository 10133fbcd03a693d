"""The networks of the report page at work, in Chromium: see test_report_browser.py."""

import json
import re
import time

from support import plots
from support.gallery import NUM_EXAMPLES

import numpy as np
import pytest
import test_report_browser
from test_report_browser import AXE, WIDTHS, By, Keys, look, messages, press, wait_for, webdriver

import report
from conftest import ROOT
from drawn_digits import STROKES
from test_report import write_run

browser = test_report_browser.browser
TRAINED = ROOT / "out" / "train"  # of whoever runs the tests; without it nothing is known of digits
DIGITS, COLORS = [str(digit) for digit in range(10)], [f"class {i}" for i in range(10)]
SMALL = [
    {"name": "conv1", "kind": "conv", "F": 4, "k": 5, "pad": 2, "stride": 1},
    {"name": "pool1", "kind": "pool", "size": 2, "stride": 2},
    {"name": "relu1", "kind": "relu"},
    {"name": "conv2", "kind": "conv", "F": 3, "k": 5, "pad": 2, "stride": 1},
    {"name": "pool2", "kind": "pool", "size": 2, "stride": 2},
    {"name": "relu2", "kind": "relu"},
    {"name": "flatten3", "kind": "flatten"},
    {"name": "fc3", "kind": "fc", "F": 40},
    {"name": "relu3", "kind": "relu"},
    {"name": "logits", "kind": "fc", "F": 10},
]

# less deep, with a convolution of three maps and a layer of as many values as there are classes
OTHER = [
    {**SMALL[0], "F": 3},
    SMALL[1],
    {**SMALL[3], "F": 4},
    *({"name": name, "kind": name} for name in ("relu", "flatten")),
    {"name": "fc", "kind": "fc", "F": 10},
    SMALL[-1],
]


def write_network(folder, channels=1, file="model.npz", seed=0, layers=SMALL, classes=DIGITS):
    """A small network with weights of chance, as a run leaves it."""
    rng, side = np.random.default_rng(seed), 32 if channels == 3 else 28
    arrays, maps, pixels = {}, channels, side**2
    for place, layer in enumerate(layers):
        if layer["kind"] == "pool":
            pixels //= 4
        if layer["kind"] == "flatten":
            maps, pixels = maps * pixels, 1
        if "F" not in layer:
            continue
        name, inputs = f"{place}.{layer['name']}", maps * layer.get("k", 1) ** 2
        weights = np.sqrt(2 / inputs) * rng.standard_normal((layer["F"], inputs))
        arrays |= {f"{name}.weights": weights.astype(np.float32)}
        arrays |= {f"{name}.bias": rng.normal(0, 0.1, layer["F"]).astype(np.float32)}
        maps = layer["F"]
    np.savez(folder / file, **arrays)
    described = {"layers": layers, "input": [channels, side, side], "mean": [0.1307] * channels}
    described |= {"deviation": [1.0 if channels == 1 else 0.25] * channels, "classes": classes}
    (folder / "network.json").write_text(json.dumps(described), encoding="utf-8")


def write_images(folder, channels):
    """What the test leaves of its images: examples of each cell of the confusion matrix, and the 20
    worst mistakes."""
    side, rng = 32 if channels == 3 else 28, np.random.default_rng(0)
    for name, shape in (
        ("confusion_examples", (10, 10 * NUM_EXAMPLES)),
        ("worst_20_images", (1, 20)),
    ):
        tiles = rng.integers(256, size=(*shape, side, side, channels)).astype(np.uint8)
        plots.draw_tiles(folder / f"{name}.png", tiles)


def write_runs(save_dir):
    """A run of Task 1 with its initial network, one of Task 2, and one of Task 4."""
    write_run(save_dir / "train", names=DIGITS, kind=1)
    write_images(save_dir / "train", 1)
    write_network(save_dir / "train")
    write_network(save_dir / "train", file="initial.npz", seed=1)
    write_run(save_dir / "pytorch_cifar", names=COLORS)
    write_images(save_dir / "pytorch_cifar", 3)
    write_network(save_dir / "pytorch_cifar", channels=3, classes=COLORS)
    write_run(save_dir / "train_l2reg/lambda_0.1", names=COLORS, kind=1)
    write_network(save_dir / "train_l2reg/lambda_0.1", layers=OTHER, classes=COLORS)
    report.write_page(save_dir)
    return save_dir


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_runs(tmp_path_factory.mktemp("networks"))


@pytest.fixture
def opened(browser, folder):
    return explore(browser, folder)


def explore(browser, folder, **kwargs):
    """Open the page at the section, which begins to work when it is near."""
    look(browser, folder, **kwargs)
    browser.execute_script("document.getElementById('explore').scrollIntoView()")
    wait_for(browser, "document.querySelector('.probabilities li') !== null")
    return browser


def find(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector)


def draw(browser, strokes, pad=".pad"):
    """Move the pointer over the pad."""
    element = find(browser, pad)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    side = element.size["width"]
    for stroke in strokes:
        hand = webdriver.ActionChains(browser, duration=0)
        for i, (x, y) in enumerate(stroke):
            hand.move_to_element_with_offset(element, side * (x - 0.5), side * (y - 0.5))
            if i == 0:
                hand.click_and_hold()
        hand.release().perform()
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def clear(browser):
    find(browser, "[data-tool=clear]").click()


def got(browser):
    """What the network gets: brightness from 0 to 1. Shape: (28, 28)."""
    read = """
        const shown = document.querySelector(".got canvas"), {width, height} = shown;
        const copy = new OffscreenCanvas(width, height);
        const context = copy.getContext("2d", {willReadFrequently: true});
        context.drawImage(shown, 0, 0);
        const {data} = context.getImageData(0, 0, width, height);
        return [...data.filter((_, i) => i % 4 === 0)];
    """
    pixels = np.array(browser.execute_script(read)) / 255
    return pixels.reshape(int(len(pixels) ** 0.5), -1)


def chances(browser):
    tracks = browser.find_elements(By.CSS_SELECTOR, ".tracks b")
    return [float(track.text.replace("%", "")) for track in tracks]


def value_at(browser, layer, picture, x=0.5, y=0.5):
    """Move the pointer to a place in a picture of a layer; the layers count from the input, 0."""
    selector = f".layer:nth-child({layer + 1}) .map:nth-child({picture + 1}) .plane"
    plane = find(browser, selector)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", plane)
    across, down = plane.size["width"] * (x - 0.5), plane.size["height"] * (y - 0.5)
    webdriver.ActionChains(browser, duration=0).move_to_element_with_offset(
        plane, across, down
    ).perform()


def sums(browser):
    """The numbers of the sum beside the layers."""
    cells = find(browser, ".explain .sums").find_elements(By.CLASS_NAME, "number")
    return [float(cell.text.replace("−", "-")) for cell in cells]


# --- drawing ------------------------------------------------------------------------------------


def test_a_drawing_is_scaled_and_centred_as_mnist_is_however_it_was_drawn(opened):
    pictures = []
    for scale, shift in ((1, 0), (0.5, 0.3)):
        clear(opened)
        draw(opened, [[(scale * x + shift, scale * y + shift) for x, y in STROKES[2][0][0]]])
        image = got(opened)
        rows, columns = (np.flatnonzero(image.max(axis=axis) > 0.05) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 in (20, 21)
        places = np.arange(28)
        for axis in (0, 1):
            assert abs(image.sum(axis=1 - axis) @ places / image.sum() - 14) < 0.3
        pictures.append(image)
    assert np.abs(pictures[0] - pictures[1]).mean() < 0.02


def test_every_stroke_changes_the_answer_and_undo_takes_it_back(opened):
    clear(opened)
    draw(opened, STROKES[5][1][:1])
    first, before = got(opened), chances(opened)
    assert sum(before) == pytest.approx(100, abs=1)
    draw(opened, STROKES[5][1][1:])
    assert chances(opened) != before
    find(opened, "[data-tool=undo]").click()
    wait_for(opened, "document.querySelector('.tracks b').textContent !== ''")
    draw(opened, [])
    assert np.array_equal(got(opened), first)
    assert chances(opened) == before
    clear(opened)
    draw(opened, [])
    assert got(opened).max() == 0


def test_the_keyboard_draws(opened):
    clear(opened)
    pad = find(opened, ".pad")
    opened.execute_script("arguments[0].focus()", pad)
    press(opened, Keys.ARROW_UP, Keys.ARROW_UP, Keys.SPACE)
    held = "new KeyboardEvent('keydown', {key: ' ', repeat: true, bubbles: true})"
    opened.execute_script(f"arguments[0].dispatchEvent({held})", pad)
    press(opened, *[Keys.ARROW_DOWN] * 8, Keys.SPACE, *[Keys.ARROW_LEFT] * 9)
    draw(opened, [])
    image = got(opened)
    rows, columns = (np.flatnonzero(image.max(axis=axis) > 0.05) for axis in (1, 0))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) in {(20, 3), (20, 4), (21, 3), (21, 4)}
    assert find(opened, ".explore [role=status]").text.endswith("pen up")


def test_a_test_image_is_chosen_by_the_keyboard(opened):
    def marked():
        return opened.find_elements(By.CSS_SELECTOR, "[role=option][aria-selected=true]")

    option = find(opened, "[role=option][tabindex='0']")
    assert marked() == [option]  # what is on the pad
    opened.execute_script("arguments[0].focus()", option)
    press(opened, Keys.ARROW_RIGHT)
    draw(opened, [])
    (image,) = marked()
    assert (image.get_attribute("tabindex"), image == option) == ("0", False)
    assert opened.execute_script("return document.activeElement") == image
    picture = "return document.querySelector('[aria-selected=true] canvas').toDataURL()"
    shown = "return document.querySelector('.got canvas').toDataURL()"
    assert opened.execute_script(picture) == opened.execute_script(shown)
    draw(opened, STROKES[1][0])
    assert marked() == []
    find(opened, "[data-tool=undo]").click()
    draw(opened, [])
    assert marked() == [image]


@pytest.mark.skipif(not (TRAINED / "model.npz").exists(), reason="no network trained on MNIST")
def test_a_trained_network_reads_drawn_digits(browser, tmp_path):
    (tmp_path / "train").symlink_to(TRAINED, target_is_directory=True)
    report.write_page(tmp_path)
    explore(browser, tmp_path)
    said = []
    for ways in STROKES.values():
        for strokes in ways:
            clear(browser)
            draw(browser, strokes)
            said.append(find(browser, ".verdict strong").text)
    right = sum(text == str(i // 2) for i, text in enumerate(said))
    print(f"{right} of {len(said)} drawn digits")
    assert right >= 16, said


# --- layers and the arithmetic of a value -------------------------------------------------------


def test_every_layer_is_there_with_sizes_parameters_and_receptive_field(opened):
    heads = [
        head.text.replace("\n", " ") for head in opened.find_elements(By.CSS_SELECTOR, ".head")
    ]
    names = [head.split()[0] for head in heads]
    assert names == [
        "input", *(layer["name"] for layer in SMALL if layer["kind"] != "flatten"), "softmax"
    ]  # fmt: skip
    assert "4 × 28 × 28 · 4 filters of 1 × 5 × 5 · 104 parameters · sees 5 × 5 pixels" in heads[1]
    assert "sees 14 × 14 pixels" in heads[4]
    assert "sees the whole image" in heads[7]


@pytest.mark.parametrize("layer", range(1, 9))
def test_the_sum_beside_the_layers_makes_the_value(opened, layer):
    clear(opened)
    draw(opened, STROKES[3][0])
    value_at(opened, layer, 0, 0.53, 0.53)
    result = float(find(opened, ".explain .result").text.replace("−", "-"))
    numbers = sums(opened)
    assert numbers[-1] == result
    if len(numbers) > 1:
        assert sum(numbers[:-1]) == pytest.approx(result, abs=0.005)


def test_what_a_value_sees_is_outlined_in_every_layer_before(opened):
    clear(opened)
    draw(opened, STROKES[3][0])
    value_at(opened, 4, 1, 0.5, 0.5)
    seen = [
        len(layer.find_elements(By.CLASS_NAME, "seen"))
        for layer in opened.find_elements(By.CLASS_NAME, "layer")
    ]
    assert seen == [1, 4, 4, 4, 1, 0, 0, 0, 0, 0, 0]
    share = "return getComputedStyle(document.querySelector('.maps')).getPropertyValue('--wide')"
    assert float(opened.execute_script(share)) == pytest.approx(14 / 28)


def test_a_click_keeps_a_value_through_a_new_drawing_until_escape(opened):
    clear(opened)
    draw(opened, STROKES[0][0])
    value_at(opened, 1, 2, 0.4, 0.4)
    webdriver.ActionChains(opened).click().perform()
    place, before = (find(opened, f".explain .{part}").text for part in ("where", "result"))
    clear(opened)
    draw(opened, STROKES[8][0])
    assert find(opened, ".explain .where").text == place
    assert find(opened, ".explain .result").text != before
    opened.execute_script("document.querySelector('.pad').focus()")
    press(opened, Keys.SPACE, Keys.ESCAPE)  # lifts the pen
    assert find(opened, ".explain .where").text == place
    opened.execute_script("document.querySelector('.maps').focus()")
    press(opened, Keys.ESCAPE)
    assert not opened.find_elements(By.CSS_SELECTOR, ".explain .where")


def test_values_are_reached_by_the_keyboard(opened):
    opened.execute_script("document.querySelectorAll('.maps')[1].focus()")
    press(opened, Keys.ENTER, Keys.HOME)
    first = find(opened, ".explain .where").text
    row = int(re.search(r"row (\d+)", first)[1])
    assert first.endswith(f"row {row}, column 0")
    press(opened, Keys.ARROW_RIGHT)
    there = find(opened, ".explain .where").text
    assert there == first.replace("column 0", "column 1")
    status = find(opened, ".explore [role=status]").text
    assert status.startswith(there)
    press(opened, Keys.PAGE_UP, Keys.PAGE_UP, Keys.PAGE_UP, Keys.PAGE_UP)
    assert "map 0" in find(opened, ".explain .where").text


# --- several networks, another task, why --------------------------------------------------------


def choose(browser, title):
    labels = browser.find_elements(By.CSS_SELECTOR, ".networks label")
    next(label for label in labels if title in label.text).click()


def test_two_networks_stand_side_by_side(opened):
    choose(opened, "before training")
    wait_for(opened, "document.querySelectorAll('.verdict strong').length === 2")
    columns = opened.find_elements(By.CSS_SELECTOR, ".layer:nth-child(2) .maps")
    assert len(columns) == 2
    assert columns[0].rect["y"] == columns[1].rect["y"]
    value_at(opened, 1, 1)
    assert "The same place in the other networks" in find(opened, ".explain").text
    assert len(opened.find_elements(By.CSS_SELECTOR, ".probabilities li:first-child b")) == 2


def test_networks_of_other_depths_stand_side_by_side_or_alone(opened):
    choose(opened, "λ = 0.1")
    wait_for(opened, "document.querySelectorAll('.verdict strong').length === 2")
    columns = [
        len(row.find_elements(By.CLASS_NAME, "maps"))
        for row in opened.find_elements(By.CLASS_NAME, "layer")
    ]
    assert columns == [2, 2, 2, 2, 2, 1, 2, 1, 2, 1, 1, 1]  # a Flatten is not shown
    for row in range(len(columns)):
        value_at(opened, row, 0)
        has_other = "The same place in the other" in find(opened, ".explain").text
        assert has_other == (row == 0)  # in row 3 there is a ReLU beside a convolution of its shape
    choose(opened, "Task 1, after")
    wait_for(opened, "document.querySelectorAll('.verdict strong').length === 1")
    assert not opened.find_elements(By.CSS_SELECTOR, ".layer:nth-child(4) .filter")
    value_at(opened, 3, 0)
    buttons = opened.find_elements(By.CSS_SELECTOR, ".channels button span:first-child")
    assert [button.text for button in buttons] == ["map 0", "map 1", "map 2"]
    for row, names in ((5, DIGITS), (6, COLORS)):
        shown = opened.find_elements(By.CSS_SELECTOR, f".layer:nth-child({row + 1}) .name")
        assert [name.text for name in shown] == names
        value_at(opened, row, 3)
        assert find(opened, ".explain .where").text.endswith(names[3])
    assert messages(opened) == []


def test_a_network_for_photographs_takes_the_place_of_those_for_digits(opened):
    choose(opened, "Task 4")
    wait_for(opened, "document.querySelector('.got canvas').width === 32")
    checked = opened.find_elements(By.CSS_SELECTOR, ".networks :checked")
    assert [box.get_attribute("value") for box in checked] == ["network-4"]
    assert find(opened, ".class").text == "class 0"
    filters = opened.find_elements(By.CSS_SELECTOR, ".layer:nth-child(2) .filter")
    assert len(filters) == 4
    value_at(opened, 1, 0)
    buttons = opened.find_elements(By.CSS_SELECTOR, ".channels button")
    assert [button.text.split()[0] for button in buttons] == ["red", "green", "blue"]
    assert find(opened, "#explore > p").text.startswith("Paint over the image and every layer")
    choose(opened, "Task 1, after")
    wait_for(opened, "document.querySelector('.got canvas').width === 28")
    assert find(opened, "#explore > p").text.startswith("Draw a digit and every layer")
    assert messages(opened) == []


def test_why_maps_follow_the_drawing_and_the_chosen_class(opened):
    clear(opened)
    draw(opened, STROKES[4][0])
    opened.execute_script("document.querySelector('.why').scrollIntoView()")
    opened.execute_script(
        "const s = document.querySelector('.why select'); s.value = 3;"
        "s.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    caption = "document.querySelector('.why-row figure:last-child figcaption').textContent"
    wait_for(opened, f"{caption}.startsWith('what covering a square takes from the logit of 3')")
    colors = """
        return [...document.querySelectorAll(".why-row canvas")].map(canvas => {
          const {data} = canvas.getContext("2d").getImageData(0, 0, 28, 28);
          return new Set(new Uint32Array(data.buffer)).size;
        });
    """
    assert all(count > 5 for count in opened.execute_script(colors))


# --- the page around it -------------------------------------------------------------------------


def test_without_a_usable_network_a_sentence_says_so(browser, tmp_path):
    write_runs(tmp_path)
    for name in ("pytorch_cifar", "train_l2reg/lambda_0.1"):
        (tmp_path / name / "model.npz").unlink()
    for name in ("model.npz", "initial.npz"):
        path = tmp_path / "train" / name
        path.write_bytes(path.read_bytes()[:-500])
    report.write_page(tmp_path)
    look(browser, tmp_path)
    assert "cannot be read" in find(browser, "section[aria-labelledby=network] .note").text
    assert not browser.find_elements(By.ID, "explore")
    assert messages(browser) == []


def test_nothing_of_it_is_unpacked_before_the_section_is_near(browser, folder):
    look(browser, folder)
    browser.execute_script("scrollTo(0, 0)")
    time.sleep(0.3)
    assert not browser.find_elements(By.CSS_SELECTOR, ".layer")
    assert messages(browser) == []


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_page(browser, folder, scheme, width):
    explore(browser, folder, scheme=scheme, width=width)
    choose(browser, "before training")
    wait_for(browser, "document.querySelectorAll('.verdict strong').length === 2")
    value_at(browser, 4, 0)
    # innerWidth grows with what is too wide
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert messages(browser) == []
    if not AXE.exists():
        pytest.skip("axe is not there; make test-browser fetches it with npm")
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    assert violations(browser, "section[aria-labelledby=network]") == []
    for layer in (1, 2, 7, 9):  # whose numbers stand on colours
        value_at(browser, layer, 0, 0.3, 0.4)
        assert violations(browser, ".explain") == []


def violations(browser, selector):
    """What axe finds there, as (rule, element)."""
    run = "axe.run(arguments[0]).then(arguments[1])"
    found = browser.execute_async_script(run, selector)["violations"]
    return [(rule["id"], node["html"][:200]) for rule in found for node in rule["nodes"]]


def test_on_paper_there_are_pictures_and_no_controls(browser, folder):
    explore(browser, folder, scheme="dark", width=720, media="print")
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    for control in browser.find_elements(
        By.CSS_SELECTOR, ".networks, .tools, .choices, .why label"
    ):
        assert not control.is_displayed()
    corner = """
        const canvas = document.querySelectorAll(".layer")[3].querySelector("canvas");
        const {data} = canvas.getContext("2d").getImageData(0, 0, 1, 1);
        return data[0] + data[1] + data[2];
    """
    assert browser.execute_script(corner) > 300  # on white paper, zero is light
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 720


def test_a_page_that_follows_a_run_keeps_the_drawing(browser, tmp_path):
    write_runs(tmp_path)
    (tmp_path / "train/initial.npz").rename(tmp_path / "initial.npz")
    report.write_page(tmp_path, live=True)
    explore(browser, tmp_path)
    clear(browser)
    draw(browser, STROKES[6][0])
    image, said = got(browser), chances(browser)
    (tmp_path / "initial.npz").rename(tmp_path / "train/initial.npz")
    (tmp_path / "pytorch_cifar/model.npz").write_bytes(b"damaged: a sentence before the section")
    report.write_page(tmp_path, live=True)
    labels = "[...document.querySelectorAll('.networks label')].map(label => label.textContent)"
    wait_for(browser, f"{labels}.some(text => text.includes('before training'))")
    assert browser.execute_script(f"return {labels}.length") == 3
    assert np.array_equal(got(browser), image)
    assert chances(browser) == said
    assert messages(browser) == []
