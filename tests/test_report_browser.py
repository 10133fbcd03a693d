"""The report page in a real browser: Chromium, headless, driven by Selenium.

Skipped where no Chromium is. axe, which checks accessibility, is taken from .browser-tools, where
`make test-browser` puts it.
"""

import base64
import csv
import shutil
import time

from support import answers, plots, tables
from support.page.hand_in import HandIn
from support.run import HISTORY_COLUMNS

import numpy as np
import pytest

import report
from conftest import ROOT
from test_report import write_all, write_run

webdriver = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
AXE = ROOT / ".browser-tools" / "node_modules" / "axe-core" / "axe.min.js"
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-quic",
)  # fmt: skip
ANSWERS = """
## 1.1 Draw

![network](net.png) ![from elsewhere](https://example.org/a.png)

# A title

| a table | with a long line |
|---|---|
| `LONG` | 1 |

## 1.4

<script>alert(1)</script> [bad](javascript:alert(1)) [good](https://example.org)

```
LONG
```
""".replace("LONG", "x" * 200)
WIDTHS = {"wide": 1280, "phone": 390}  # CSS pixels
TASK_1, TASK_4 = (f"section[aria-labelledby=task-{number}] " for number in (1, 4))

if not (CHROMIUM and DRIVER):
    pytest.skip("no chromium and chromedriver are installed", allow_module_level=True)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A save folder in which every script has been run, with its page."""
    save_dir = tmp_path_factory.mktemp("full")
    names = [f"class {i}" for i in range(8)] + ["<script>alert(1)</script>", "dog'\"&"]
    write_all(save_dir, names=names)
    (save_dir / answers.NAME).write_text(ANSWERS, encoding="utf-8")
    plots.draw_tiles(save_dir / "net.png", np.zeros((1, 3, 300, 300, 1), np.uint8))
    author = "Ada <b>Lovelace</b> of a Name that is Long Enough to Need Two Lines"
    handed_in = HandIn(author=author, course="Nets", answers=save_dir / answers.NAME)
    report.write_page(save_dir, handed_in=handed_in)
    return save_dir


@pytest.fixture
def opened(browser, full):
    return look(browser, full)


def look(browser, save_dir, scheme="light", width=1280, media="", motion="no-preference"):
    """Open a save folder's page."""
    values = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
    features = [{"name": name, "value": value} for name, value in values.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get((save_dir / "report.html").as_uri())
    return browser


def messages(browser):
    return [entry["message"] for entry in browser.get_log("browser")]


def press(browser, *keys):
    """Keys, one after the other, for whatever has the focus."""
    webdriver.ActionChains(browser).send_keys(*keys).perform()


@pytest.fixture(params=["full", "empty", "interrupted", "damaged"])
def save_dir(request, full, tmp_path):
    """Save folders of all kinds, each with its page."""
    if request.param == "full":
        return full
    if request.param != "empty":
        write_all(tmp_path, status="interrupted" if request.param == "interrupted" else "finished")
    if request.param == "damaged":
        for path in [*tmp_path.rglob("*.csv"), *tmp_path.rglob("*.json")]:
            path.write_bytes(path.read_bytes()[:-9])
    report.write_page(tmp_path, handed_in=HandIn(answers=tmp_path / answers.NAME))
    return tmp_path


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_the_page_says_nothing_asks_for_nothing_and_fits(browser, save_dir, width):
    look(browser, save_dir, width=width)
    assert messages(browser) == []
    sent = [e["message"] for e in browser.get_log("performance")]
    sent = [message for message in sent if '"Network.requestWillBeSent"' in message]
    assert all('"url":"file:' in message or '"url":"data:' in message for message in sent)
    # not innerWidth, which on a phone grows with what overflows
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return document.querySelectorAll('main > section').length") == 8


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser, save_dir, scheme, width):
    if not AXE.exists():
        pytest.skip("axe is not there; make test-browser fetches it with npm")
    look(browser, save_dir, scheme, width)
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    found = browser.execute_async_script("axe.run().then(arguments[0])")["violations"]
    nodes = [node["html"][:200] for violation in found for node in violation["nodes"]]
    assert ([violation["id"] for violation in found], nodes) == ([], [])


def test_dark_is_dark(browser, full):
    color = "return getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)"
    light = look(browser, full, "light").execute_script(color)
    dark = look(browser, full, "dark").execute_script(color)
    assert min(light) > 200
    assert max(dark) < 50
    ink = "return getComputedStyle(document.querySelector('.chart text')).fill"
    assert browser.execute_script(ink) != look(browser, full, "light").execute_script(ink)


def test_paper_has_no_controls_and_every_table(browser, full):
    look(browser, full, "dark", 720, media="print")
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    controls = "nav, .controls, .scrub, .cell, .sideways, .cursor"
    for control in browser.find_elements(By.CSS_SELECTOR, controls):
        assert not control.is_displayed()
    closed = browser.find_elements(By.CSS_SELECTOR, "main details:not([open])")
    summaries = [details.find_element(By.TAG_NAME, "summary") for details in closed]
    assert len(closed) == 2
    assert "pass" in summaries[0].text  # a line for the layer, without its tensors
    assert not summaries[1].is_displayed()  # what repeats Task 1
    color = "return getComputedStyle(document.body).backgroundColor"
    assert browser.execute_script(color) == "rgb(255, 255, 255)"
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 720
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script("return document.querySelectorAll('main [open]').length") == 0
    pdf = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert base64.b64decode(pdf).startswith(b"%PDF")


def test_the_slider_works_from_the_keyboard(opened):
    slider = opened.find_element(By.ID, "filters-4")
    control = slider.find_element(By.TAG_NAME, "input")
    image = slider.find_element(By.CSS_SELECTOR, ".now img")
    last = image.get_attribute("src")
    control.send_keys(Keys.ARROW_LEFT)
    assert slider.find_element(By.CSS_SELECTOR, ".now figcaption").text == "epoch 2, step 20"
    assert control.get_attribute("aria-valuetext") == "epoch 2, step 20"
    assert image.get_attribute("src") != last
    control.send_keys(Keys.HOME)
    assert image.get_attribute("alt").endswith("before training")
    control.send_keys(Keys.END)
    assert image.get_attribute("src") == last


def reading(browser, place=TASK_1):
    """What the first chart and the filters of a section say."""
    chart = browser.find_element(By.CSS_SELECTOR, place + ".chart")
    values = [value.text for value in chart.find_elements(By.CSS_SELECTOR, ".line strong")]
    caption = browser.find_element(By.CSS_SELECTOR, place + ".now figcaption").text
    return chart.find_element(By.CLASS_NAME, "epoch").text, values, caption


def at(epoch, steps=20):
    """The same for a run whose loss is the epoch's number."""
    values = [str(epoch), str(epoch / 2).removesuffix(".0")]
    return f"epoch {epoch}", values, f"epoch {epoch}, step {steps}"


@pytest.fixture(scope="module")
def rising(tmp_path_factory):
    """A save folder with a run of six epochs."""
    save_dir = tmp_path_factory.mktemp("rising")
    folder = write_run(save_dir / "train", epochs=6)
    rows = [
        dict.fromkeys(HISTORY_COLUMNS, 0.5) | {"epoch": e, "train_loss": e, "valid_loss": e / 2}
        for e in range(1, 7)
    ]
    tables.write_table(folder / "history.csv", HISTORY_COLUMNS, rows)
    report.write_page(save_dir)
    return save_dir


def test_a_curve_tells_its_values_to_mouse_and_finger_and_moves_the_filters(browser, rising):
    look(browser, rising)
    assert reading(browser) == at(6)
    picture = browser.find_element(By.CSS_SELECTOR, TASK_1 + ".plot svg")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", picture)
    box = picture.rect
    marks = [mark.rect for mark in picture.find_elements(By.TAG_NAME, "use")]
    centers = sorted({round(mark["x"] + mark["width"] / 2 - box["x"]) for mark in marks[:6]})
    mouse = webdriver.ActionChains(browser, duration=0)
    for epoch in (2, 5):
        x, y = centers[epoch - 1] - box["width"] // 2, 0
        mouse.move_to_element_with_offset(picture, x, y).perform()
        assert reading(browser) == at(epoch)
    cursor = picture.find_element(By.CSS_SELECTOR, ".cursor path").rect
    assert abs(cursor["x"] + cursor["width"] / 2 - box["x"] - centers[4]) <= 1
    others = browser.find_elements(By.CSS_SELECTOR, TASK_1 + ".chart .epoch")
    assert [other.text for other in others] == ["epoch 5"] * 3
    left, top = browser.execute_script(
        "const {left, top} = arguments[0].getBoundingClientRect(); return [left, top]", picture
    )
    point = {"x": left + centers[2], "y": top + 50}
    for kind, points in (("touchStart", [point]), ("touchEnd", [])):
        touch = {"type": kind, "touchPoints": points}
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", touch)
    assert reading(browser) == at(3)


def test_a_curve_is_read_with_the_arrow_keys(browser, rising):
    look(browser, rising)
    scrub = browser.find_element(By.CSS_SELECTOR, TASK_1 + ".scrub")
    browser.execute_script("arguments[0].focus()", scrub)
    for key, epoch in (
        (Keys.ARROW_LEFT, 5), (Keys.ARROW_LEFT, 4), (Keys.HOME, 1), (Keys.ARROW_LEFT, 1),
        (Keys.ARROW_RIGHT, 2), (Keys.END, 6),
    ):  # fmt: skip
        press(browser, key)
        assert reading(browser) == at(epoch)
    press(browser, Keys.ARROW_LEFT)
    assert scrub.get_attribute("aria-valuetext") == "epoch 5: training 5, validation 2.5"
    assert scrub.get_attribute("aria-label") == "Loss: epoch"


def test_the_filters_move_the_curves_along(browser, rising):
    look(browser, rising)
    control = browser.find_element(By.CSS_SELECTOR, ".controls input")
    control.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert reading(browser) == at(4)
    control.send_keys(Keys.HOME)
    assert reading(browser) == (*at(1)[:2], "before training")


def test_play_goes_to_the_end_and_pauses_when_pressed_again(browser, rising):
    look(browser, rising)
    button = browser.find_element(By.CLASS_NAME, "play")
    control = browser.find_element(By.CSS_SELECTOR, ".controls input")
    here = "document.querySelector('.controls input').value"
    assert button.text == "Play"
    button.send_keys(Keys.ENTER)
    assert button.text == "Pause"
    wait_for(browser, f"Number({here}) >= 2")
    browser.execute_script("document.querySelector('.play').click()")
    stopped = control.get_property("value")
    time.sleep(1.5)
    assert (button.text, control.get_property("value")) == ("Play", stopped)
    button.click()
    wait_for(browser, f"{here} === '6' && document.querySelector('.play').textContent === 'Play'")
    assert reading(browser) == at(6)
    button.click()
    control.send_keys(Keys.ARROW_RIGHT)
    assert button.text == "Play"
    assert int(control.get_property("value")) < 6


def test_nothing_moves_by_itself_where_the_reader_wants_no_motion(browser, rising):
    look(browser, rising, motion="reduce")
    button = browser.find_element(By.CLASS_NAME, "play")
    assert button.text == "Next epoch"
    button.click()
    assert reading(browser)[2] == "before training"
    time.sleep(1.5)
    assert reading(browser)[2] == "before training"
    for epoch in (1, 2):
        button.click()
        assert reading(browser) == at(epoch)


def test_the_menu_of_a_phone_opens_leads_to_a_section_and_closes(browser, full):
    look(browser, full, width=390)
    menu = browser.find_element(By.CSS_SELECTOR, "nav summary")
    link = browser.find_element(By.CSS_SELECTOR, "nav a[href='#task-3']")
    assert not link.is_displayed()
    menu.click()
    assert link.is_displayed()
    press(browser, Keys.ESCAPE)
    assert not link.is_displayed()
    menu.click()
    link.click()
    assert not link.is_displayed()
    wait_for(browser, "document.querySelector('nav summary').textContent.includes('same network')")
    top = "return document.querySelector('#task-3').getBoundingClientRect().top"
    bar = "return document.querySelector('nav').getBoundingClientRect().bottom"
    assert browser.execute_script(top) >= browser.execute_script(bar)
    assert menu.is_displayed()
    look(browser, full)
    assert not browser.find_element(By.CSS_SELECTOR, "nav summary").is_displayed()
    assert browser.find_element(By.CSS_SELECTOR, "nav a[href='#task-3']").is_displayed()


def test_a_table_says_that_it_scrolls_only_where_it_does(browser, full):
    overflow = """
        return [...document.querySelectorAll(".wide")].filter(wide => wide.checkVisibility())
          .map(wide => [wide.scrollWidth > wide.clientWidth + 1, wide.nextElementSibling])
          .filter(([, hint]) => hint?.className === "sideways")
          .map(([overflows, hint]) => [overflows, hint.offsetParent !== null]);
    """
    for width, some in ((1280, False), (390, True)):
        look(browser, full, width=width)
        found = browser.execute_script(overflow)
        assert len(found) >= 5
        assert all(overflows == said for overflows, said in found)
        assert any(said for _, said in found) == some


def test_without_its_script_the_page_shows_all_and_offers_nothing_dead(browser, full, tmp_path):
    html = (full / "report.html").read_text(encoding="utf-8")
    (tmp_path / "report.html").write_text(html.replace("<script nonce=", "<script data-no="))
    look(browser, tmp_path, width=390)
    dead = ".controls, .scrub, .scripted, .sideways, .hint, .cell"
    for element in browser.find_elements(By.CSS_SELECTOR, dead):
        assert not element.is_displayed()
    arrow = "return getComputedStyle(document.querySelector('th button'), '::after').content"
    assert browser.execute_script(arrow) == "none"
    assert browser.find_element(By.CSS_SELECTOR, "nav a[href='#task-3']").is_displayed()
    assert reading(browser) == ("epoch 3", ["0.5", "0.5"], "epoch 3, step 20")
    assert browser.find_element(By.CSS_SELECTOR, TASK_1 + "[data-row]").is_displayed()


def test_a_cell_shows_count_share_and_images_when_focused_or_pointed_at(opened, full):
    with (full / "pytorch_cifar/confusion_matrix.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    counts = [[int(count) for count in row[1:]] for row in rows]

    def expected(i, j):
        verb = "recognized" if i == j else f"taken for {rows[j][0]}"
        total = sum(counts[i])
        share = 100 * counts[i][j] / total
        return f"{counts[i][j]} | {rows[i][0]}, {verb} | {counts[i][j]} of {total}, {share:.1f} %"

    def shown():
        lines = panel.find_elements(By.TAG_NAME, "p")[:3]
        return " | ".join(line.text for line in lines)

    matrix = opened.find_element(By.CSS_SELECTOR, TASK_4 + ".confusion")
    panel = matrix.find_element(By.CSS_SELECTOR, ".cell")
    first = matrix.find_element(By.CSS_SELECTOR, "[data-row]")
    opened.execute_script("arguments[0].focus()", first)
    assert shown() == expected(0, 0)
    for keys, cell in (
        ([Keys.ARROW_RIGHT], (0, 1)),
        ([Keys.ARROW_DOWN], (1, 1)),
        ([Keys.ARROW_DOWN, Keys.ARROW_LEFT], (2, 0)),
        ([Keys.ARROW_LEFT], (2, 0)),
        ([Keys.END], (2, 9)),
        ([Keys.ARROW_UP, Keys.HOME], (1, 0)),
    ):
        press(opened, *keys)
        assert shown() == expected(*cell)
    cell = matrix.find_element(By.CSS_SELECTOR, '[data-row="8"][data-column="3"]')
    opened.execute_script("arguments[0].scrollIntoView()", cell)
    webdriver.ActionChains(opened).move_to_element(cell).perform()
    assert shown() == expected(8, 3)
    tiles = panel.find_elements(By.CLASS_NAME, "tile")
    assert len(tiles) == min(counts[8][3], 3)
    for tile in tiles:
        assert "url(" in tile.value_of_css_property("background-image")


def test_each_matrix_is_one_stop_of_the_tab_key_and_names_its_axes(opened):
    grids = opened.find_elements(By.CSS_SELECTOR, "[role=grid]")
    assert len(grids) == 3
    for grid in grids:
        assert len(grid.find_elements(By.CSS_SELECTOR, '[data-row][tabindex="0"]')) == 1
        axes = grid.find_elements(By.CSS_SELECTOR, ".axis")
        assert [axis.get_attribute("textContent") for axis in axes] == ["predicted", "true"]


def test_a_table_sorts_by_each_column_from_the_keyboard(opened):
    table = opened.find_element(By.CSS_SELECTOR, TASK_4 + ".sortable")
    buttons = table.find_elements(By.TAG_NAME, "button")
    heads = table.find_elements(By.CSS_SELECTOR, "thead th")

    def column(number):
        cells = table.find_elements(By.CSS_SELECTOR, f"tbody tr > :nth-child({number})")
        return [cell.text for cell in cells]

    buttons[2].send_keys(Keys.ENTER)
    recalls = [float(text) for text in column(3)]
    assert recalls == sorted(recalls)
    assert heads[2].get_attribute("aria-sort") == "ascending"
    buttons[2].send_keys(Keys.SPACE)
    assert [float(text) for text in column(3)] == recalls[::-1]
    assert heads[2].get_attribute("aria-sort") == "descending"
    buttons[0].send_keys(Keys.ENTER)
    assert column(1) == ["<script>alert(1)</script>", *(f"class {i}" for i in range(8)), "dog'\"&"]
    assert heads[2].get_attribute("aria-sort") is None


def test_the_tab_key_reaches_everything_and_the_focus_is_seen(opened):
    where = """
        const there = document.activeElement, style = getComputedStyle(there);
        return there === document.body ? null : [there.tagName, style.outlineStyle];
    """
    opened.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    reached = []
    for _ in range(80):
        press(opened, Keys.TAB)
        if not (place := opened.execute_script(where)):
            break
        reached.append(place)
    assert {"A", "SUMMARY", "INPUT", "TD", "BUTTON"} <= {tag for tag, _ in reached}
    assert {style for _, style in reached} <= {"solid", "auto"}


def test_the_page_is_soon_interactive(opened):
    timing = "return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    print(f"interactive after {opened.execute_script(timing):.0f} ms")
    assert opened.execute_script("return document.readyState") == "complete"


# --- the page that is handed in -----------------------------------------------------------------


def test_answers_are_shown_and_stay_harmless(opened):
    assert opened.find_element(By.CSS_SELECTOR, ".owner strong").text.startswith("Ada <b>Lovelace")
    first, second = opened.find_elements(By.CLASS_NAME, "answer")
    assert [h.text for h in first.find_elements(By.CSS_SELECTOR, "h5, th, td")][1] == "a table"
    assert "[from elsewhere: only PNG files" in first.text
    picture = "const i = document.querySelector('.answer img'); return [i.complete, i.naturalWidth]"
    assert opened.execute_script(picture) == [True, 900]
    image = first.find_element(By.TAG_NAME, "img")  # which may be transparent, its lines black
    assert image.value_of_css_property("background-color") == "rgba(255, 255, 255, 1)"
    links = second.find_elements(By.TAG_NAME, "a")
    assert [link.get_attribute("href") for link in links] == ["https://example.org/"]
    assert "<script>alert(1)</script>" in second.text
    assert len(opened.find_elements(By.CLASS_NAME, "unanswered")) == 9
    assert messages(opened) == []


def test_each_line_of_the_check_list_leads_to_its_section(opened):
    links = opened.find_elements(By.CSS_SELECTOR, ".asked a")
    assert len(links) == 5
    for link in links:
        link.send_keys(Keys.ENTER)
        target = link.get_attribute("href").partition("#")[2]
        top = f"return document.getElementById('{target}').getBoundingClientRect().top"
        assert 0 <= opened.execute_script(top) < 900
    warned = opened.find_elements(By.CSS_SELECTOR, ".asked .warn")
    assert {cell.text for cell in warned} == {"generated"}


def test_an_answer_that_is_written_comes_into_the_open_page(browser, tmp_path):
    write_all(tmp_path)
    handed_in = HandIn(answers=tmp_path / "other.md")
    report.write_page(tmp_path, live=True, handed_in=handed_in)
    look(browser, tmp_path)
    handed_in.answers.write_text("## 2.2\n\nBy *these*.")
    report.write_page(tmp_path, live=True, handed_in=handed_in)
    wait_for(browser, "document.querySelector('.answer em')?.textContent === 'these'")


# --- the page that follows a run ----------------------------------------------------------------


def next_epoch(folder, epochs):
    rows = [dict.fromkeys(HISTORY_COLUMNS, 0.4) | {"epoch": e} for e in range(1, epochs + 1)]
    tables.write_table(folder / "history.csv", HISTORY_COLUMNS, rows)
    source = sorted((folder / "filters").iterdir())[0]
    shutil.copy(source, folder / "filters" / f"epoch_{epochs:02d}_step_000020.png")


def wait_for(browser, condition):
    end = time.monotonic() + 60
    while not browser.execute_script(f"return {condition}"):
        assert time.monotonic() < end, condition
        time.sleep(0.2)


def test_an_open_page_follows_and_keeps_what_the_reader_has_set(browser, tmp_path):
    write_all(tmp_path)
    report.write_page(tmp_path, live=True)
    look(browser, tmp_path)
    browser.execute_script(
        """
        document.same = true;
        const range = document.querySelector("#filters-1 input");
        range.value = 1;
        range.dispatchEvent(new Event("input", {bubbles: true}));
        const scrub = document.querySelector("section[aria-labelledby=task-4] .scrub");
        scrub.value = 1;
        scrub.dispatchEvent(new Event("input", {bubbles: true}));
        document.querySelector(".layers details").open = true;
        document.querySelector(".sortable th:nth-child(3) button").click();
        const matrix = document.querySelector("section[aria-labelledby=task-4] [role=grid]");
        matrix.querySelector('[data-row="1"]').focus({preventScroll: true});
        window.image = document.querySelector("#filters-4 .now img");
        scrollTo(0, document.querySelector("#task-4").offsetTop);
        """
    )
    top = "Math.round(document.querySelector('#task-4').getBoundingClientRect().top)"
    before = browser.execute_script(f"return {top}")
    for epochs in (4, 5):
        next_epoch(tmp_path / "train", epochs)
        report.write_page(tmp_path, live=True)
        wait_for(
            browser, f"document.querySelector('#page').textContent.includes('{epochs} epochs')"
        )
    assert browser.execute_script("return document.same && window.image.isConnected")
    assert abs(browser.execute_script(f"return {top}") - before) <= 1
    state = browser.execute_script(
        """
        const slider = document.querySelector("#filters-1");
        return [slider.querySelector("input").value, slider.querySelector("input").max,
          slider.querySelector(".now figcaption").textContent,
          slider.closest("section").querySelector(".epoch").textContent,
          document.querySelector("#filters-4 input").value,
          document.querySelector("section[aria-labelledby=task-4] .epoch").textContent,
          document.querySelector(".layers details").open,
          document.querySelector(".sortable [aria-sort]").textContent,
          document.activeElement.dataset.row];
        """
    )
    assert state == [
        "1", "5", "epoch 1, step 20", "epoch 1", "2", "epoch 2", True, "recall", "1",
    ]  # fmt: skip
    assert messages(browser) == []


def test_the_newest_filters_are_shown_where_the_reader_had_the_newest(browser, tmp_path):
    write_all(tmp_path)
    report.write_page(tmp_path, live=True)
    look(browser, tmp_path)
    next_epoch(tmp_path / "train", 4)
    report.write_page(tmp_path, live=True)
    caption = "document.querySelector('#filters-1 .now figcaption').textContent"
    wait_for(browser, f"{caption} === 'epoch 4, step 20'")
    assert browser.find_element(By.CSS_SELECTOR, TASK_1 + ".epoch").text == "epoch 4"


def test_a_page_from_nothing_grows_and_stops_when_it_is_final(browser, tmp_path):
    report.write_page(tmp_path, live=True)
    look(browser, tmp_path)
    write_all(tmp_path)
    report.write_page(tmp_path, live=True)
    wait_for(browser, "document.querySelector('.cell .count') !== null")
    report.write_page(tmp_path)
    wait_for(browser, "!('live' in document.getElementById('page').dataset)")
    time.sleep(2)
    assert browser.execute_script("return document.querySelector('iframe') === null")
    assert messages(browser) == []
