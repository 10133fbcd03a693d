// Curves that tell their values: for a mouse, a finger, or the arrow keys. All that a section shows
// through time, its charts and its filters, goes along to the same epoch.
const drawn = new WeakMap();  // picture -> {text, points}

function pointsOf(chart) {
  const svg = chart.querySelector(".plot svg"), text = svg?.dataset.points;
  if (!text) return null;
  if (drawn.get(svg)?.text !== text) drawn.set(svg, {text, points: JSON.parse(text)});
  return drawn.get(svg).points;
}

function showValues(chart) {
  const points = pointsOf(chart), range = chart.querySelector(".scrub");
  if (!points) return;
  const at = Number(range.value), epoch = "epoch " + points.epochs[at];
  const texts = points.lines.map(line => line.texts[at]);
  chart.querySelector(".epoch").textContent = epoch;
  const key = [...chart.querySelectorAll(".line")];
  key.forEach((line, i) => { line.querySelector("strong").textContent = texts[i]; });
  range.setAttribute("aria-valuetext", `${epoch}: ${key.map(line => line.textContent.trim()).join(", ")}`);
  showCursor(chart.querySelector(".plot svg"), points, at);
}

function showCursor(svg, {x, top, bottom, lines}, at) {
  svg.querySelector(".cursor")?.remove();
  const make = (parent, name, attributes) => {
    const element = parent.appendChild(document.createElementNS(svg.namespaceURI, name));
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const cursor = make(svg, "g", {class: at === x.length - 1 ? "cursor last" : "cursor"});
  make(cursor, "path", {d: `M${x[at]} ${top}V${bottom}`});
  for (const {color, y} of lines)
    for (const places of y)
      if (places[at] !== null) make(cursor, "circle", {cx: x[at], cy: places[at], r: 4.5, style: `fill: var(--line-${color})`});
}

// Bring whatever else the section of an element shows through time to an epoch.
function follow(element, epoch) {
  const lastUpTo = epochs => Math.max(0, epochs.findLastIndex(other => other <= epoch));
  const section = element.closest("section");
  for (const chart of section.querySelectorAll(".chart")) {
    const points = chart !== element && pointsOf(chart);
    if (!points) continue;
    chart.querySelector(".scrub").value = lastUpTo(points.epochs.map(Number));
    showValues(chart);
  }
  for (const slider of section.querySelectorAll(".slider")) {
    if (slider === element) continue;
    if (playing.has(slider)) pause(slider);
    slider.querySelector("input").value = lastUpTo(framesOf(slider).map(frame => frame.epoch));
    showFrame(slider);
  }
}

function read(chart, at) {
  chart.querySelector(".scrub").value = at;
  showValues(chart);
  follow(chart, Number(pointsOf(chart).epochs[at]));
}

document.addEventListener("refresh", () => document.querySelectorAll(".chart").forEach(showValues));
document.addEventListener("input", event => {
  if (event.target.matches(".scrub")) read(event.target.closest(".chart"), Number(event.target.value));
});
for (const type of ["pointerdown", "pointermove"]) document.addEventListener(type, event => {
  const svg = event.target.closest?.(".plot svg"), chart = svg?.closest(".chart"), points = chart && pointsOf(chart);
  if (!points) return;
  const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
  const distance = points.x.map(x => Math.abs(x - place)), nearest = distance.indexOf(Math.min(...distance));
  if (nearest !== Number(chart.querySelector(".scrub").value)) read(chart, nearest);
});
