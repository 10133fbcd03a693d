"""The report page in a real browser: Chromium, headless, driven by Selenium.

Skipped where no Chromium is. axe, which checks accessibility, is taken from .browser-tools, where
`make test-browser` puts it.
"""

import base64
import csv
import shutil
import time

from support import tables
from support.run import HISTORY_COLUMNS

import pytest

import report
from conftest import ROOT
from test_report import write_all

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
WIDTHS = {"wide": 1280, "phone": 390}  # CSS pixels

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
    report.write_page(save_dir)
    return save_dir


@pytest.fixture
def opened(browser, full):
    return look(browser, full)


def look(browser, save_dir, scheme="light", width=1280, media=""):
    """Open a save folder's page."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [feature]})
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
    report.write_page(tmp_path)
    return tmp_path


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_the_page_says_nothing_asks_for_nothing_and_fits(browser, save_dir, width):
    look(browser, save_dir, width=width)
    assert messages(browser) == []
    sent = [e["message"] for e in browser.get_log("performance")]
    sent = [message for message in sent if '"Network.requestWillBeSent"' in message]
    assert all('"url":"file:' in message or '"url":"data:' in message for message in sent)
    overflow = "return document.documentElement.scrollWidth - innerWidth"
    assert browser.execute_script(overflow) <= 0
    assert browser.execute_script("return document.querySelectorAll('main > section').length") == 7


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
    for control in browser.find_elements(By.CSS_SELECTOR, "nav, .slider label, .cell"):
        assert not control.is_displayed()
    assert browser.execute_script(
        "return [...document.querySelectorAll('details')].every(d => d.open)"
    )
    color = "return getComputedStyle(document.body).backgroundColor"
    assert browser.execute_script(color) == "rgb(255, 255, 255)"
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 720
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script("return document.querySelectorAll('details[open]').length") == 0
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

    panel = opened.find_element(By.CSS_SELECTOR, ".cell")
    first = opened.find_element(By.CSS_SELECTOR, "[data-row]")
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
    cell = opened.find_element(By.CSS_SELECTOR, '[data-row="8"][data-column="3"]')
    opened.execute_script("arguments[0].scrollIntoView()", cell)
    webdriver.ActionChains(opened).move_to_element(cell).perform()
    assert shown() == expected(8, 3)
    tiles = panel.find_elements(By.CLASS_NAME, "tile")
    assert len(tiles) == min(counts[8][3], 3)
    for tile in tiles:
        assert "url(" in tile.value_of_css_property("background-image")


def test_the_matrix_is_one_stop_of_the_tab_key(opened):
    assert len(opened.find_elements(By.CSS_SELECTOR, '[data-row][tabindex="0"]')) == 1


def test_a_table_sorts_by_each_column_from_the_keyboard(opened):
    table = opened.find_element(By.CSS_SELECTOR, ".sortable")
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
        document.querySelector("details").open = true;
        document.querySelector(".sortable th:nth-child(3) button").click();
        document.querySelector('[data-row="1"][data-column="0"]').focus({preventScroll: true});
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
          document.querySelector("#filters-4 input").value, document.querySelector("details").open,
          document.querySelector(".sortable [aria-sort]").textContent,
          document.activeElement.dataset.row];
        """
    )
    assert state == ["1", "5", "epoch 1, step 20", "3", True, "recall", "1"]
    assert messages(browser) == []


def test_the_newest_filters_are_shown_where_the_reader_had_the_newest(browser, tmp_path):
    write_all(tmp_path)
    report.write_page(tmp_path, live=True)
    look(browser, tmp_path)
    next_epoch(tmp_path / "train", 4)
    report.write_page(tmp_path, live=True)
    caption = "document.querySelector('#filters-1 .now figcaption').textContent"
    wait_for(browser, f"{caption} === 'epoch 4, step 20'")


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
