"use strict";
const page = document.getElementById("page");

function showFrame(slider) {
  const frames = JSON.parse(slider.querySelector("script").textContent);
  const range = slider.querySelector("input"), now = slider.querySelector(".now"), image = now.querySelector("img");
  const {address, label} = frames[range.value];
  if (image.src !== address) image.src = address;
  image.alt = "filters of the first layer, " + label;
  now.querySelector("figcaption").textContent = label;
  range.setAttribute("aria-valuetext", label);
}

function showCell(cell) {
  const grid = cell.closest("table"), panel = grid.closest(".confusion").querySelector(".cell");
  const names = [...grid.querySelectorAll("tbody th")].map(th => th.textContent);
  const count = (i, j) => Number(grid.querySelector(`[data-row="${i}"][data-column="${j}"]`).textContent);
  const share = (i, j) => {
    const total = names.map((_, k) => count(i, k)).reduce((a, b) => a + b);
    return `${count(i, j)} of ${total}, ${(total ? 100 * count(i, j) / total : 0).toFixed(1)}\u00a0%`;
  };
  const [i, j] = [Number(cell.dataset.row), Number(cell.dataset.column)];
  const line = (text, name) => Object.assign(document.createElement("p"), {textContent: text, className: name});
  const tiles = document.createElement("div");
  tiles.className = "tiles";
  const {size = 0, examples = 0} = panel.dataset;
  for (let k = 0; k < Math.min(count(i, j), examples); k++) {
    const tile = document.createElement("span");
    tile.className = "tile";
    tile.style.setProperty("--x", `${-(j * examples + k) * size}px`);
    tile.style.setProperty("--y", `${-i * size}px`);
    tiles.append(tile);
  }
  panel.replaceChildren(
    line(count(i, j), "count"),
    line(i === j ? `${names[i]}, recognized` : `${names[i]}, taken for ${names[j]}`),
    line(share(i, j), "faint"), tiles);
  if (i !== j) panel.append(line(`The other way round: ${share(j, i)}`, "faint"));
  panel.dataset.shown = `${i} ${j}`;
}

function sort(table) {
  const head = table.querySelector("[aria-sort]"), column = head.cellIndex;
  const sign = head.getAttribute("aria-sort") === "ascending" ? 1 : -1;
  const text = row => row.cells[column].textContent.replace("−", "-");
  const order = (a, b) => column ? text(a) - text(b) : text(a).localeCompare(text(b));
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => sign * order(a, b)));
}

function refresh() {
  document.querySelectorAll(".slider").forEach(showFrame);
  document.querySelectorAll(".sortable:has([aria-sort])").forEach(sort);
  for (const grid of document.querySelectorAll("[role=grid]")) {
    const shown = grid.closest(".confusion").querySelector(".cell").dataset.shown;
    const mistakes = [...grid.querySelectorAll("[data-row]:not(.right)")];
    const tint = cell => Number(cell.style.getPropertyValue("--tint"));
    const largest = mistakes.reduce((a, b) => tint(b) > tint(a) ? b : a, mistakes[0]);
    const [i, j] = shown?.split(" ") ?? [];
    showCell(grid.querySelector(`[data-row="${i}"][data-column="${j}"]`) ?? largest ?? grid.querySelector("[data-row]"));
  }
}

document.addEventListener("input", event => showFrame(event.target.closest(".slider")));
for (const type of ["pointerover", "focusin"]) document.addEventListener(type, event => {
  const cell = event.target.closest?.("[data-row]");
  if (cell) showCell(cell);
});
document.addEventListener("keydown", event => {
  const cell = event.target.closest?.("[data-row]");
  if (!cell || event.altKey || event.metaKey) return;
  const grid = cell.closest("table"), last = grid.rows.length - 2;
  let [i, j] = [Number(cell.dataset.row), Number(cell.dataset.column)];
  if (event.key === "ArrowLeft") j--;
  else if (event.key === "ArrowRight") j++;
  else if (event.key === "ArrowUp") i--;
  else if (event.key === "ArrowDown") i++;
  else if (event.key === "Home") [i, j] = [event.ctrlKey ? 0 : i, 0];
  else if (event.key === "End") [i, j] = [event.ctrlKey ? last : i, last];
  else return;
  event.preventDefault();
  const next = grid.querySelector(`[data-row="${i}"][data-column="${j}"]`);
  if (!next) return;
  cell.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});
document.addEventListener("click", event => {
  const head = event.target.closest?.(".sortable th");
  if (!head || head.closest("thead") === null) return;
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  sort(head.closest("table"));
});
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const details of opened) details.open = true;
});
addEventListener("afterprint", () => { for (const details of opened) details.open = false; });
refresh();

// The rest follows the runs: what has changed in the file is changed in the page, nothing else.
const OURS = new Set(["open", "aria-sort", "tabindex", "data-shown"]);  // what the reader has set

function morph(from, to) {
  if (from.isEqualNode(to)) return;
  for (const {name, value} of to.attributes)
    if (!OURS.has(name) && from.getAttribute(name) !== value) from.setAttribute(name, value);
  for (const {name} of [...from.attributes])
    if (!OURS.has(name) && !to.hasAttribute(name)) from.removeAttribute(name);
  const before = [...from.childNodes], after = [...to.childNodes];
  after.forEach((node, i) => {
    const old = before[i];
    if (!old) from.append(node);
    else if (old.nodeType === 1 && old.nodeName === node.nodeName && old.id === node.id) morph(old, node);
    else if (!old.isEqualNode(node)) old.replaceWith(node);
  });
  before.slice(after.length).forEach(node => node.remove());
}

const frame = document.createElement("iframe");
frame.hidden = true;
let waiting = 0;  // seconds since the last question, while there is no answer
function ask() {
  if (!("live" in page.dataset) || document.hidden || (frame.isConnected && ++waiting < 10)) return;
  waiting = 0;
  frame.remove();
  frame.src = `?live=${page.dataset.version}`;
  document.body.append(frame);
}
addEventListener("message", event => {
  if (event.source !== frame.contentWindow) return;
  frame.remove();
  if (!event.data.page) return;
  const atEnd = [...document.querySelectorAll("input[type=range]")].filter(range => range.value === range.max);
  morph(page, new DOMParser().parseFromString(event.data.page, "text/html").getElementById("page"));
  for (const range of atEnd) range.value = range.max;
  refresh();
});
if (asked === null) setInterval(ask, 1000);
