// The confusion matrix: a cell that is pointed at, or reached with the arrow keys, tells about itself.
function showCell(cell) {
  const grid = cell.closest("table"), panel = grid.closest(".confusion").querySelector(".cell");
  const names = [...grid.querySelectorAll("th[scope=row]")].map(th => th.textContent);
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

document.addEventListener("refresh", () => {
  for (const grid of document.querySelectorAll("[role=grid]")) {
    const shown = grid.closest(".confusion").querySelector(".cell").dataset.shown;
    const mistakes = [...grid.querySelectorAll("[data-row]:not(.right)")];
    const tint = cell => Number(cell.style.getPropertyValue("--tint"));
    const largest = mistakes.reduce((a, b) => tint(b) > tint(a) ? b : a, mistakes[0]);
    const [i, j] = shown?.split(" ") ?? [];
    showCell(grid.querySelector(`[data-row="${i}"][data-column="${j}"]`) ?? largest ?? grid.querySelector("[data-row]"));
  }
});
for (const type of ["pointerover", "focusin"]) document.addEventListener(type, event => {
  const cell = event.target.closest?.("[data-row]");
  if (cell) showCell(cell);
});
document.addEventListener("keydown", event => {
  const cell = event.target.closest?.("[data-row]");
  if (!cell || event.altKey || event.metaKey) return;
  const grid = cell.closest("table"), last = grid.tBodies[0].rows.length - 1;
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
