// Why this class? Two maps of the image, for a class's logit: its gradient, and what covering takes.
const SQUARE = 5, EVERY = 2;  // pixels of the covered square's side, and from one to the next
const SLICE = 20;  // ms of work before the page gets a turn
const PAUSE = 180;  // ms after the last stroke

class Why {
  constructor(host) {
    const [figures, said, select] = [".whys", ".why-said", "select"].map(name => host.querySelector(name));
    Object.assign(this, {figures, said, select, rows: [], turn: 0});
    this.asked = null;  // a class that was chosen; null: the one with the largest probability
    this.isNear = this.isDue = false;
    select.addEventListener("change", () => {
      this.asked = select.value === "" ? null : Number(select.value);
      this.start();
    });
    new IntersectionObserver(entries => {
      this.isNear = entries.at(-1).isIntersecting;
      if (this.isNear && this.isDue) this.start();
    }, {rootMargin: NEAR}).observe(host);
  }

  setClasses(classes) {
    if (this.classes?.join() === classes.join()) return;
    this.classes = classes;
    this.asked = null;
    this.select.replaceChildren(element("option", {value: ""}, "the most probable"),
      ...classes.map((name, c) => element("option", {value: c}, name)));
  }

  // results: a Map from each network to {pixels, outs}; they are drawn after a moment of rest, and
  // where somebody sees them
  show(results) {
    this.results = results;
    this.isDue = true;
    this.turn++;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => { if (this.isNear) this.start(); }, PAUSE);
  }

  async start() {
    clearTimeout(this.timer);
    const turn = ++this.turn, isNamed = this.results.size > 1;
    this.isDue = false;
    this.rows = [...this.results].map(([network, result]) => new WhyRow(network, result, this.asked, isNamed, this.said));
    this.figures.replaceChildren(...this.rows.map(row => row.element));
    for (const row of this.rows) {
      if (!await row.cover(() => turn === this.turn)) return;
    }
  }

  recolor() {
    if (this.isDue && this.results) this.start();
    this.rows.forEach(row => row.paint());
  }
}

// The image and both maps of one network.
class WhyRow {
  constructor(network, {pixels, outs}, asked, isNamed, said) {
    const c = asked ?? strongest(outs.at(-1)), name = network.classes[c], [, H, W] = network.input;
    Object.assign(this, {network, outs, c, name, said, drops: null});
    this.gradient = oneChannel(Network.gradient(network, outs, c), network.input);
    this.maps = [asCanvas(pixels, network.input), ...[1, 2].map(() => element("canvas", {width: W, height: H}))];
    const captions = [`the image; logit of ${name}: ${inWords(outs.at(-2)[c])}`, `gradient of the logit of ${name}`, ""];
    this.figures = this.maps.map((map, i) => captioned(element("span", {className: "plane"}, map, element("i", {hidden: true})), captions[i]));
    for (const map of this.maps) map.setAttribute("role", "img");
    captions.forEach((text, i) => this.caption(i, text));
    this.element = element("div", {className: "why-row"}, ...this.figures);
    if (isNamed) this.element.prepend(element("p", {className: "faint net-name"}, network.label));
    this.paint();
  }

  caption(i, text) {
    this.figures[i].querySelector("figcaption").textContent = text;
    this.maps[i].setAttribute("aria-label", text || "not yet there");
  }

  paint() {
    const [, H, W] = this.network.input;
    paintValues(this.maps[1], this.gradient, roundLimit(this.gradient), H, W);
    if (this.drops) paintSquares(this.maps[2], this.drops);
  }

  // Cover square after square, as long as isWanted(); whether it came to the end.
  async cover(isWanted) {
    const steps = Network.occlusionSteps(this.network, this.outs[0], this.c, SQUARE, EVERY);
    let step, since = performance.now();
    while (!(step = steps.next()).done) {
      if (performance.now() - since < SLICE) continue;
      this.caption(2, `covering a square, place after place: ${Math.round(100 * step.value)} %`);
      await new Promise(resolve => setTimeout(resolve));
      if (!isWanted()) return false;
      since = performance.now();
    }
    this.drops = step.value;
    const most = inWords(Math.max(0, ...this.drops.values));
    this.caption(2, `what covering a square takes from the logit of ${this.name}; at most ${most}`);
    this.paint();
    const plane = this.figures[2].querySelector(".plane");
    plane.addEventListener("pointermove", event => this.frame(this.squareAt(event, plane)));
    plane.addEventListener("pointerleave", () => this.frame(null));
    return true;
  }

  // Row and column, among the squares, of the one in whose middle the pointer is.
  squareAt(event, plane) {
    const [, H, W] = this.network.input, {rows, columns} = this.drops, box = plane.getBoundingClientRect();
    const nearest = (share, side, count) => Math.min(count - 1, Math.max(0, Math.round((share * side - SQUARE / 2) / EVERY)));
    return [nearest((event.clientY - box.top) / box.height, H, rows), nearest((event.clientX - box.left) / box.width, W, columns)];
  }

  // Outline a square in all three pictures and say its number.
  frame(square) {
    const [, H, W] = this.network.input, [y, x] = square ?? [0, 0];
    const sides = {top: y * EVERY / H, left: x * EVERY / W, height: SQUARE / H, width: SQUARE / W};
    for (const figure of this.figures) {
      const frame = figure.querySelector("i");
      frame.hidden = !square;
      for (const [side, share] of Object.entries(sides)) frame.style[side] = `${100 * share}%`;
    }
    const logit = this.outs.at(-2)[this.c], without = logit - this.drops.values[y * this.drops.columns + x];
    this.said.textContent = square ? `With this square covered, the logit of ${this.name} is ${inWords(without)} instead of ${inWords(logit)}.` : "";
  }
}

// Of three channels the gradient with the largest size.
function oneChannel(gradient, [C, H, W]) {
  if (C === 1) return gradient;
  return Float32Array.from({length: H * W}, (_, i) => {
    const parts = Array.from({length: C}, (_, c) => gradient[c * H * W + i]);
    return parts[strongest(parts)];
  });
}

// Each square's number in its middle, as large as the way to the next.
function paintSquares(canvas, {values, rows, columns}) {
  const {width, height} = canvas, whole = new Float32Array(width * height), edge = (SQUARE - EVERY) / 2;
  const part = (place, count) => Math.min(count - 1, Math.max(0, Math.floor((place - edge) / EVERY)));
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) whole[y * width + x] = values[part(y, rows) * columns + part(x, columns)];
  paintValues(canvas, whole, roundLimit(values), height, width);
}
