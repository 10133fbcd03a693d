// Every layer of one or more networks, drawn: a row a layer, in it a column a network. Pointing at a
// value outlines what it comes from, in its own network and at the same place in the others.
const ACROSS = 8;  // maps side by side
const STRIP = 64;  // values of a vector side by side
const FEW = 20;  // values of a vector that are shown with their names

// How the values lie in pictures: how many of these, and their size; a value has the place
// (picture * height + y) * width + x in its layer.
function sheet(shape, isImage) {
  if (isImage) return {count: 1, height: shape[1], width: shape[2], across: 1};
  if (shape.length === 3)
    return {count: shape[0], height: shape[1], width: shape[2], across: Math.min(shape[0], ACROSS)};
  const [n] = shape;
  if (n <= FEW) return {count: n, height: 1, width: 1, across: n};
  return {count: 1, height: Math.ceil(n / STRIP), width: Math.min(n, STRIP), across: 1};
}

function title(layer) {
  const facts = [layer.shape.join(" × ")];
  if (layer.kind === "conv") facts.push(`${layer.F} filters of ${layer.inputShape[0]} × ${layer.k} × ${layer.k}`);
  if (layer.kind === "pool") facts.push(`the largest of ${layer.size} × ${layer.size}`);
  if (layer.numParams) facts.push(`${layer.numParams.toLocaleString("en")} parameters`);
  if (layer.receptiveField) facts.push(`sees ${layer.receptiveField} × ${layer.receptiveField} pixels`);
  else if (layer.kind) facts.push("sees the whole image");
  return facts.join(" · ");
}

// One layer of one network.
class Maps {
  constructor(network, index) {
    const layer = network.layers[index] ?? {name: "input", shape: network.input};
    Object.assign(this, {network, index, layer, sheet: sheet(layer.shape, index < 0)});
    const {count, across} = this.sheet, isCells = this.sheet.width === 1;
    this.pictures = Array.from({length: count}, () => document.createElement("canvas"));
    this.values = isCells ? this.pictures.map(() => element("span", {className: "value"})) : [];
    const children = this.pictures.map((picture, c) => {
      const plane = element("span", {className: "plane"}, picture);
      const map = element("span", {className: "map"}, ...this.filter(c), plane);
      if (isCells) map.append(element("span", {className: "name"}, areClasses(this) ? network.classes[c] : c), this.values[c]);
      return map;
    });
    const kind = index < 0 ? "image" : isCells ? "cells" : layer.shape.length === 1 ? "strip" : "planes";
    this.element = element("div", {
      className: `maps ${kind}`, tabIndex: 0, role: "application",
      "aria-roledescription": "values of a layer", "aria-describedby": "explore-keys",
      "aria-label": `${layer.name}, ${layer.shape.join(" × ")}, ${network.label}`,
    }, ...children);
    this.element.style.setProperty("--across", across);
    this.element.owner = this;
  }

  filter(c) {  // of a first layer, whose filters are pictures
    const {kind, inputShape, k, weights} = this.layer, [C] = inputShape ?? [];
    if (kind !== "conv" || this.index > 0 || (C !== 1 && C !== 3)) return [];
    const canvas = element("canvas", {className: "filter"}), length = C * k * k;
    this.filters ??= [];
    this.filters[c] = () => paintFilter(canvas, weights.subarray(c * length, (c + 1) * length), this.filterLimit ??= roundLimit(weights), [C, k]);
    return [canvas];
  }

  paint(values, limit, pixels) {
    const {height, width} = this.sheet;
    if (this.index < 0) asCanvas(pixels, this.network.input, this.pictures[0]);
    else this.pictures.forEach((picture, c) => paintValues(picture, values, limit, height, width, c * height * width));
    const isShare = this.layer.kind === "softmax";
    this.values.forEach((value, c) => { value.textContent = isShare ? percent(values[c]) : inWords(values[c]); });
    if (this.scale !== Colors.stops()) this.filters?.forEach(paint => paint());
    this.scale = Colors.stops();
  }

  // The value under the pointer, or null between the pictures.
  indexAt(event) {
    const plane = event.target.closest?.(".plane") ?? event.target.closest?.(".map")?.querySelector(".plane");
    if (!plane) return null;
    const {height, width} = this.sheet, box = plane.getBoundingClientRect();
    const part = (place, start, size, count) => Math.min(count - 1, Math.max(0, Math.floor((place - start) / size * count)));
    const c = [...this.element.children].indexOf(plane.parentNode);
    const [y, x] = [part(event.clientY, box.top, box.height, height), part(event.clientX, box.left, box.width, width)];
    return this.existing((c * height + y) * width + x);
  }

  // The index, if there is such a value: the last row of a vector may be shorter.
  existing(index) {
    const {count, height, width} = this.sheet;
    return index >= 0 && index < Math.min(count * height * width, this.layer.numOutputs ?? Infinity) ? index : null;
  }

  // Where an arrow key leads: to the neighbour, also across the gap between two pictures.
  step(index, key) {
    const {count, height, width, across} = this.sheet;
    let c = Math.floor(index / (height * width)), y = Math.floor(index / width) % height, x = index % width;
    if (key === "PageDown") c++;
    else if (key === "PageUp") c--;
    else if (key === "Home") x = 0;
    else if (key === "End") x = width - 1;
    else [x, y] = [x + ARROWS[key][0], y + ARROWS[key][1]];
    if (x < 0 || x >= width) {
      const column = c % across + Math.sign(x);
      if (column < 0 || column >= across) return null;
      [c, x] = [c + Math.sign(x), x < 0 ? width - 1 : 0];
    }
    if (y < 0 || y >= height) [c, y] = [c + Math.sign(y) * across, y < 0 ? height - 1 : 0];
    return c < 0 || c >= count ? null : this.existing((c * height + y) * width + x);
  }

  // Outline a window of Network.sources, or nothing; isOwn: it is the value itself.
  outline(window, isOwn, index) {
    const {height, width, count} = this.sheet, isVector = this.layer.shape.length === 1;
    const isAll = window && isVector && !isOwn && window.channels[1] - window.channels[0] > 1;
    let [top, left, bottom, right] = window?.clipped ?? [];
    let [first, end] = window?.channels ?? [0, 0];
    if (this.index < 0) [first, end] = window ? [0, 1] : [0, 0];
    if (window && isVector && count === 1) {
      const place = isOwn ? index : first;
      [top, left] = [Math.floor(place / width), place % width];
      [bottom, right, first, end] = [top + 1, left + 1, 0, 1];
    }
    this.element.classList.toggle("all", Boolean(isAll));
    [...this.element.children].forEach((map, c) => map.classList.toggle("seen", !isAll && c >= first && c < end));
    if (!window) return;
    const shares = {top: top / height, left: left / width, high: (bottom - top) / height, wide: (right - left) / width};
    for (const [name, share] of Object.entries(shares)) this.element.style.setProperty(`--${name}`, share);
    this.element.classList.toggle("own", isOwn);
  }
}

class LayerStack {
  // point(maps, index or null): the pointer is there; choose(maps, index): it is to stay
  constructor(host, point, choose) {
    Object.assign(this, {host, point, choose, rows: []});
    const at = event => event.target.closest?.(".maps")?.owner;
    host.addEventListener("pointermove", event => {
      if (event.pointerType !== "touch") this.point(at(event), at(event)?.indexAt(event) ?? null);
    });
    host.addEventListener("pointerleave", () => this.point(null, null));
    host.addEventListener("click", event => {
      const index = at(event)?.indexAt(event) ?? null;
      if (index !== null) this.choose(at(event), index);
    });
    host.addEventListener("keydown", event => this.key(event, at(event)));
  }

  key(event, maps) {
    if (!maps || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!(event.key in ARROWS) && !["Home", "End", "PageUp", "PageDown", "Enter", " "].includes(event.key)) return;
    event.preventDefault();
    const chosen = this.chosen?.maps === maps ? this.chosen.index : null;
    const isStep = !["Enter", " "].includes(event.key);
    const next = chosen === null || !isStep ? chosen ?? strongest(maps.shown) : maps.step(chosen, event.key);
    if (next !== null) this.choose(maps, next);
  }

  show(networks) {
    const depth = Math.max(...networks.map(network => network.layers.length));
    this.rows = [];
    for (let index = -1; index < depth; index++) {
      const present = networks.filter(({layers}) => index < layers.length && layers[index]?.kind !== "flatten");
      if (!present.length) continue;
      const layers = present.map(network => network.layers[index] ?? {name: "input", shape: network.input});
      const maps = present.map(network => new Maps(network, index));
      const legend = element("span", {className: "legend"});
      const names = new Set(layers.map(layer => layer.name)), heads = new Set(layers.map(title));
      this.rows.push({maps, legend, index, element: element("div", {className: "layer"},
        element("div", {className: "head"},
          element("h4", {}, [...names].join(", ")), legend, ...[...heads].map(text => element("span", {className: "faint"}, text))),
        element("div", {className: "nets"}, ...maps.map(part => this.column(part, networks.length > 1))))});
    }
    this.host.replaceChildren(...this.rows.map(row => row.element));
  }

  column(maps, isNamed) {
    return element("div", {className: "net"}, ...isNamed ? [element("span", {className: "faint net-name"}, maps.network.label)] : [], maps.element);
  }

  // results: a Map from each network to {pixels, outs}
  paint(results) {
    for (const {maps, legend, index} of this.rows) {
      const values = maps.map(part => results.get(part.network).outs[index + 1]);
      const limit = maps.every(part => part.layer.kind === "softmax") ? 1 : roundLimit(...values);
      maps.forEach((part, n) => {
        part.shown = values[n];
        part.paint(values[n], limit, results.get(part.network).pixels);
      });
      const isHalf = values.every(part => part.every(value => value >= 0));
      paintLegend(legend, index < 0 ? ["#000, #fff", "0", "1"] : [Colors.css(isHalf), isHalf ? "0" : `−${limit}`, `${limit}`]);
    }
  }

  outline(chosen) {
    const network = chosen?.maps.network, windows = chosen && Network.sources(network, chosen.maps.index, ...placeOf(chosen));
    for (const {maps, index} of this.rows)
      for (const part of maps) {
        const window = chosen && areAlike(network, part.network, index) ? windows[index + 1] : null;
        part.outline(window, chosen?.maps.index === index, chosen?.index);
      }
  }
}

const placeOf = ({maps, index}) => Network.place(maps.index < 0 ? [1, ...maps.layer.shape.slice(1)] : maps.layer.shape, index);

// Whether the values of a layer are one a class: logits and softmax.
const areClasses = ({network, index}) => index >= network.layers.length - 2;

// Whether the layer there is of the same kind and shape in two networks, so that values have the same place.
function areAlike(a, b, index) {
  const [one, other] = [a, b].map(network => network.layers[index] ?? {shape: index < 0 ? network.input : null});
  return one.kind === other.kind && String(one.shape) === String(other.shape);
}

function strongest(values) {
  let best = 0;
  values.forEach((value, i) => { if (Math.abs(value) > Math.abs(values[best])) best = i; });
  return best;
}

function paintLegend(legend, [colors, low, high]) {
  if (legend.dataset.shown === colors + low + high) return;
  legend.dataset.shown = colors + low + high;
  const bar = element("i", {});
  bar.style.background = `linear-gradient(90deg, ${colors})`;
  legend.replaceChildren(low, bar, high);
}
