// The pad: strokes of mouse, pen, finger or keyboard on a blank field or on a test image, and what
// a network gets of them. All places on it are shares of its side, from 0 to 1.
const LINE = 2.8;  // pixels of the network's image that a stroke is wide: as much ink as MNIST's digits have
const BOX = 20, MIDDLE = 14.5;  // MNIST's digits fill 20 x 20; their centre of mass is in pixel 14
const FINE = 8;  // parts of a pixel's side in which ink is measured
const SMALLEST = 0.15;  // what is smaller than this share of the pad stays small: a dot is no zero
const STEP = 1 / 24;  // of the keyboard's brush
const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

class Pad {
  // changed(): after every stroke's every move; say(text): for who does not see the brush
  constructor(canvas, changed, say) {
    Object.assign(this, {canvas, changed, say, context: canvas.getContext("2d")});
    this.shape = [1, 28, 28];
    this.image = null;  // a test image: pixels from 0 to 1, shape (C, H, W)
    this.strokes = [];  // each {color, points: [[x, y], ...]}
    this.past = [];  // states to go back to
    this.color = "#ffffff";
    this.onTop = false;  // whether the next stroke keeps the test image
    this.brush = null;  // the keyboard's: [x, y]
    this.stroke = null;  // the one being drawn
    this.keys = new Set();
    canvas.addEventListener("pointerdown", event => this.begin(event));
    canvas.addEventListener("pointermove", event => this.move(event));
    for (const type of ["pointerup", "pointercancel"])
      canvas.addEventListener(type, event => { if (event.pointerId === this.pointer) this.end(); });
    canvas.addEventListener("keydown", event => this.key(event));
    canvas.addEventListener("keyup", event => this.keys.delete(event.key));
    canvas.addEventListener("blur", () => { this.keys.clear(); this.end(); this.brush = null; this.paint(); });
  }

  get isEmpty() { return !this.image && !this.strokes.length; }

  // Begin with a test image, or with nothing; there is no way back from here.
  reset(image) {
    this.end();
    Object.assign(this, {image, strokes: [], past: [], isUntouched: true});
    this.paint();
  }

  begin(event) {
    if (event.button || !event.isPrimary) return;
    this.end();
    this.brush = null;
    this.pointer = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    this.startAt(this.place(event));
  }

  move(event) {
    if (!this.stroke || event.pointerId !== this.pointer) return;
    const moves = event.getCoalescedEvents?.() ?? [];
    for (const part of moves.length ? moves : [event]) this.stroke.points.push(this.place(part));
    this.change();
  }

  end() { this.stroke = this.pointer = null; }

  startAt(place) {
    this.remember();
    this.isUntouched = false;
    if (this.image && !this.onTop) [this.image, this.strokes] = [null, []];
    this.stroke = {color: this.color, points: [place]};
    this.strokes.push(this.stroke);
    this.change();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") { if (!event.repeat) this.togglePen(); }
    else if (event.key === "Escape" && this.stroke) { this.end(); this.say("pen up"); }
    else if (event.key in ARROWS) this.moveBrush(event.key);
    else return;
    event.preventDefault();
    this.paint();
  }

  togglePen() {
    this.brush ??= [0.5, 0.5];
    if (this.stroke) this.end();
    else this.startAt([...this.brush]);
    this.say(this.stroke ? "pen down" : "pen up");
  }

  moveBrush(key) {  // with two arrow keys down it moves diagonally
    this.keys.add(key);
    this.brush ??= [0.5, 0.5];
    const edge = STEP / 2;
    for (const axis of [0, 1]) {
      const way = [...this.keys].reduce((sum, name) => sum + ARROWS[name][axis], 0);
      this.brush[axis] = Math.min(1 - edge, Math.max(edge, this.brush[axis] + way * STEP));
    }
    if (this.stroke) { this.stroke.points.push([...this.brush]); this.change(); }
    const [x, y] = this.brush.map(share => Math.round(100 * share));
    this.say(`${x} % from the left, ${y} % from the top, pen ${this.stroke ? "down" : "up"}`);
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  remember() { this.past.push({image: this.image, strokes: this.strokes.slice()}); }

  undo() {
    this.end();
    if (this.past.length) Object.assign(this, this.past.pop());
    this.change();
  }

  // In colour the image stays: without one there is nothing to see.
  clear() {
    this.end();
    if (!this.isEmpty) this.remember();
    [this.image, this.strokes] = [this.shape[0] === 3 ? this.image : null, []];
    this.change();
  }

  show(image) {
    this.end();
    this.remember();
    this.isUntouched = false;
    [this.image, this.strokes] = [image, []];
    this.change();
  }

  change() {
    this.paint();
    this.changed();
  }

  paint() {
    const {canvas, context} = this, side = canvas.width;
    context.fillStyle = "#000";
    context.fillRect(0, 0, side, side);
    if (this.image) {
      context.imageSmoothingEnabled = false;
      context.drawImage(asCanvas(this.image.pixels, this.image.shape), 0, 0, side, side);
    }
    traceAll(context, this.strokes, side, 0, 0, LINE / this.shape[2] * side);
    if (this.brush) {
      context.lineWidth = side / 140;
      context.strokeStyle = this.stroke ? "#ff9d4d" : "#8fb8ff";
      context.beginPath();
      context.arc(this.brush[0] * side, this.brush[1] * side, side / 28, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  // What a network gets, before its normalisation. Shape: (C, H, W), from 0 to 1.
  pixels() {
    if (!this.image && this.shape[0] === 1) return digit(this.strokes, this.shape);
    const pixels = this.image?.pixels ?? new Float32Array(this.shape.reduce((a, b) => a * b));
    return this.strokes.length ? drawnOver(pixels, this.shape, this.strokes) : pixels;
  }
}

function traceAll(context, strokes, scale, dx, dy, width) {
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = width;
  for (const {color, points} of strokes) {
    const [first, ...rest] = points.map(([x, y]) => [x * scale + dx, y * scale + dy]);
    context.strokeStyle = color;
    context.beginPath();
    context.moveTo(...first);
    rest.forEach((point, i) => {  // a curve through the middles: no corners where a hand made none
      const next = rest[i + 1];
      if (next) context.quadraticCurveTo(...point, (point[0] + next[0]) / 2, (point[1] + next[1]) / 2);
      else context.lineTo(...point);
    });
    if (!rest.length) context.lineTo(...first);
    context.stroke();
  }
}

function blank(height, width) {
  const canvas = Object.assign(document.createElement("canvas"), {height, width});
  return canvas.getContext("2d", {willReadFrequently: true});
}

// The strokes as MNIST's digits were made: their box scaled to 20 x 20 with its proportions, their
// centre of mass brought to the middle. A line has the same width however large one draws.
function digit(strokes, [, H, W]) {
  const pixels = new Float32Array(H * W);
  if (!strokes.length) return pixels;
  const points = strokes.flatMap(stroke => stroke.points);
  const ends = [0, 1].map(axis => {
    const values = points.map(point => point[axis]);
    return [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  });
  const size = Math.max(SMALLEST, ...ends.map(([low, high]) => high - low));
  const scale = FINE * (BOX - LINE) / size, context = blank(FINE * H, FINE * W);
  const [dx, dy] = ends.map(([low, high], axis) => FINE * [W, H][axis] / 2 - scale * (low + high) / 2);
  traceAll(context, strokes, scale, dx, dy, FINE * LINE);
  const ink = context.getImageData(0, 0, FINE * W, FINE * H).data;
  let mass = 0, sumX = 0, sumY = 0;
  for (let i = 3, place = 0; i < ink.length; i += 4, place++) {
    if (!ink[i]) continue;
    mass += ink[i];
    sumX += ink[i] * (place % (FINE * W) + 0.5);
    sumY += ink[i] * (Math.floor(place / (FINE * W)) + 0.5);
  }
  const shift = (sum, side) => Math.round(FINE * (MIDDLE + (side - 28) / 2) - sum / mass);
  const right = shift(sumX, W), down = shift(sumY, H);
  for (let i = 3, place = 0; i < ink.length; i += 4, place++) {
    if (!ink[i]) continue;
    const x = Math.floor((place % (FINE * W) + right) / FINE);
    const y = Math.floor((Math.floor(place / (FINE * W)) + down) / FINE);
    if (x < 0 || x >= W || y < 0 || y >= H) continue;
    pixels[y * W + x] += ink[i] / 255 / FINE ** 2;
  }
  return pixels;
}

function drawnOver(pixels, shape, strokes) {
  const [, H, W] = shape, context = blank(H, W);
  context.drawImage(asCanvas(pixels, shape), 0, 0);
  traceAll(context, strokes, W, 0, 0, LINE);
  const {data} = context.getImageData(0, 0, W, H);
  return Float32Array.from(pixels, (_, i) => data[i % (H * W) * 4 + Math.floor(i / (H * W))] / 255);
}

// Pixels from 0 to 1, grey or in colour, as a canvas of their size.
function asCanvas(pixels, shape, canvas = document.createElement("canvas")) {
  const [C, H, W] = shape, image = new ImageData(W, H), plane = C === 3 ? H * W : 0;
  for (let i = 0; i < H * W; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = 255 * pixels[c * plane + i];
    image.data[4 * i + 3] = 255;
  }
  if (canvas.width !== W || canvas.height !== H) Object.assign(canvas, {width: W, height: H});
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
