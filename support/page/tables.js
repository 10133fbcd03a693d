// Tables: sorted by the column whose head is pressed; one that is too wide says that it scrolls.
function sort(table) {
  const head = table.querySelector("[aria-sort]"), column = head.cellIndex;
  const sign = head.getAttribute("aria-sort") === "ascending" ? 1 : -1;
  const text = row => row.cells[column].textContent.replace("−", "-");
  const order = (a, b) => column ? text(a) - text(b) : text(a).localeCompare(text(b));
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => sign * order(a, b)));
}

const sizes = new ResizeObserver(entries => {
  for (const {target} of entries) target.toggleAttribute("data-overflows", target.scrollWidth > target.clientWidth + 1);
});

document.addEventListener("refresh", () => {
  document.querySelectorAll(".sortable:has([aria-sort])").forEach(sort);
  document.querySelectorAll(".wide").forEach(wide => sizes.observe(wide));
});
document.addEventListener("click", event => {
  const head = event.target.closest?.(".sortable th");
  if (!head || head.closest("thead") === null) return;
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  sort(head.closest("table"));
});
