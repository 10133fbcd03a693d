// Numbers as colours: blue below zero, orange above, as in the pictures of the filters. On a dark
// page zero is dark, so that what is silent there is not what shines.
const DIVERGING = {
  light: [[0, "#06245f"], [0.3, "#2a74d4"], [0.5, "#d6d6d6"], [0.7, "#e06a12"], [1, "#611700"]],
  dark: [[0, "#cfe2ff"], [0.25, "#5b9dfa"], [0.5, "#2c2c33"], [0.75, "#ee7d2b"], [1, "#ffe3c7"]],
};
const HALF = 128;  // colours from zero to an end

const Colors = {
  scheme: matchMedia("(prefers-color-scheme: dark)"),
  onPaper: false,
  stops() { return DIVERGING[this.scheme.matches && !this.onPaper ? "dark" : "light"]; },

  // The scale as 257 colours, each the four bytes of a pixel.
  table() {
    const stops = this.stops();
    this.tables ??= new Map();
    if (!this.tables.has(stops)) {
      const table = new Uint32Array(2 * HALF + 1), octets = new Uint8ClampedArray(table.buffer);
      for (let i = 0; i <= 2 * HALF; i++) octets.set([...between(stops, i / (2 * HALF)), 255], 4 * i);
      this.tables.set(stops, table);
    }
    return this.tables.get(stops);
  },

  // For a gradient; isHalf: from zero on.
  css(isHalf) {
    const share = place => 100 * (isHalf ? 2 * place - 1 : place);
    return this.stops().filter(([place]) => !isHalf || place >= 0.5).map(([place, color]) => `${color} ${share(place)}%`).join(", ");
  },

  of(value, limit) {
    const share = Math.min(1, Math.max(0, value / limit / 2 + 0.5));
    return `rgb(${between(this.stops(), share).map(Math.round).join(" ")})`;
  },
};

function between(stops, share) {
  const next = Math.max(1, stops.findIndex(([place]) => place >= share));
  const [low, high] = [stops[next - 1], stops[next]], part = (share - low[0]) / (high[0] - low[0]);
  const [from, to] = [low[1], high[1]].map(hex => [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16)));
  return from.map((value, c) => value + part * (to[c] - value));
}

// Values start, start + 1, ... as a picture of height x width, a pixel each; limit: the scale's end.
function paintValues(canvas, values, limit, height, width, start = 0) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer), table = Colors.table();
  const end = Math.min(pixels.length, values.length - start), factor = HALF / limit;
  for (let i = 0; i < end; i++) {
    const place = Math.round(values[start + i] * factor) + HALF;
    pixels[i] = table[place < 0 ? 0 : place > 2 * HALF ? 2 * HALF : place];
  }
  context.putImageData(image, 0, 0);
}

// Filters of three channels stay in colour: zero is mid-grey.
function paintFilter(canvas, weights, limit, [C, k]) {
  if (C === 1) return paintValues(canvas, weights, limit, k, k);
  asCanvas(weights.map(weight => Math.min(1, Math.max(0, weight / limit / 2 + 0.5))), [C, k, k], canvas);
}

// The next round number: as the values change a little, the scale stays.
function roundLimit(...arrays) {
  let largest = 0;
  for (const values of arrays) for (const value of values) if (Math.abs(value) > largest) largest = Math.abs(value);
  if (!largest) return 1;
  const unit = 10 ** Math.floor(Math.log10(largest));
  return [1, 2, 5, 10].map(step => step * unit).find(limit => limit >= largest * (1 - 1e-9));
}

function inWords(value, digits = 2) {
  const size = Math.abs(value);
  const text = size >= 1000 ? size.toFixed(0) : size >= 100 ? size.toFixed(1) : size.toFixed(digits);
  return value < 0 && Number(text) ? `−${text}` : text;
}

const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;

// element("p", {className: "x"}, "text", other): a new element with these properties and children.
function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties))
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  made.append(...children);
  return made;
}
