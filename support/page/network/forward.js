"use strict";
// A convolutional network forwards and backwards, as in layers.py, for one image.
//
// Arrays are Float32Array, row by row: a value of channel c, row y, column x of maps [C, H, W] is at
// (c*H + y)*W + x. What a layer makes is outs[i + 1] for net.layers[i]; outs[0] is the image.
const Network = (() => {

// --- one layer after the other ---

function forward(net, x) {
  const outs = [x];
  for (const layer of net.layers) outs.push(RULES[layer.kind].forward(layer, outs[outs.length - 1]));
  return outs;
}

// The gradient of a class's logit with respect to the image: the chain rule, from the end.
function gradient(net, outs, classIndex) {
  const last = net.layers.length - 2;  // the logits; softmax is left out
  let grad = new Float32Array(outs[last + 1].length);
  grad[classIndex] = 1;
  for (let i = last; i >= 0; i--) grad = RULES[net.layers[i].kind].backward(net.layers[i], outs[i], grad);
  return grad;
}

// Convolution: out[f, y, x] = bias[f] + sum over c, i, j of
//   weights[f, c, i, j] * image[c, y*stride + i - pad, x*stride + j - pad]
// The two innermost loops run over the image, so that one weight stays in hand; where the filter
// looks beyond the edge there are zeros to add, and `inside` leaves them out.
function convolution(layer, image) {
  const {F, k, pad, stride, weights, bias} = layer;
  const [C, H, W] = layer.inputShape, [, OH, OW] = layer.shape;
  const out = new Float32Array(F * OH * OW);
  for (let f = 0; f < F; f++) {
    out.fill(bias[f], f * OH * OW, (f + 1) * OH * OW);
    for (let c = 0; c < C; c++)
      for (let i = 0; i < k; i++)
        for (let j = 0; j < k; j++) {
          const weight = weights[((f * C + c) * k + i) * k + j];
          const [top, bottom] = inside(i - pad, stride, H, OH), [left, right] = inside(j - pad, stride, W, OW);
          for (let y = top; y < bottom; y++) {
            const to = (f * OH + y) * OW, from = (c * H + y * stride + i - pad) * W + j - pad;
            for (let x = left; x < right; x++) out[to + x] += weight * image[from + x * stride];
          }
        }
  }
  return out;
}

// Each pixel gets what each output hands back, times the weight between them: the same six loops.
function convolutionBackward(layer, image, grad) {
  const {F, k, pad, stride, weights} = layer;
  const [C, H, W] = layer.inputShape, [, OH, OW] = layer.shape;
  const gradImage = new Float32Array(C * H * W);
  for (let f = 0; f < F; f++)
    for (let c = 0; c < C; c++)
      for (let i = 0; i < k; i++)
        for (let j = 0; j < k; j++) {
          const weight = weights[((f * C + c) * k + i) * k + j];
          const [top, bottom] = inside(i - pad, stride, H, OH), [left, right] = inside(j - pad, stride, W, OW);
          for (let y = top; y < bottom; y++) {
            const from = (f * OH + y) * OW, to = (c * H + y * stride + i - pad) * W + j - pad;
            for (let x = left; x < right; x++) gradImage[to + x * stride] += weight * grad[from + x];
          }
        }
  return gradImage;
}

// The outputs y, first and one after the last, whose pixel y*stride + offset is one of `size`.
function inside(offset, stride, size, outputs) {
  const first = Math.max(0, Math.ceil(-offset / stride));
  return [first, Math.min(outputs, Math.floor((size - 1 - offset) / stride) + 1)];
}

// Pooling: the largest value of each window. Calls each(place of the output, of the winner).
function eachWinner(layer, maps, each) {
  const {size, stride} = layer, [C, OH, OW] = layer.shape, [, H, W] = layer.inputShape;
  for (let c = 0; c < C; c++)
    for (let y = 0; y < OH; y++)
      for (let x = 0; x < OW; x++) {
        const corner = (c * H + y * stride) * W + x * stride;
        let winner = corner;
        for (let i = 0; i < size; i++)
          for (let j = 0; j < size; j++)
            if (maps[corner + i * W + j] > maps[winner]) winner = corner + i * W + j;  // ties: the first
        each((c * OH + y) * OW + x, winner);
      }
}

function pooling(layer, maps) {
  const out = new Float32Array(layer.numOutputs);
  eachWinner(layer, maps, (place, winner) => { out[place] = maps[winner]; });
  return out;
}

function poolingBackward(layer, maps, grad) {
  const gradMaps = new Float32Array(maps.length);
  eachWinner(layer, maps, (place, winner) => { gradMaps[winner] += grad[place]; });
  return gradMaps;
}

const relu = (layer, x) => x.map(value => Math.max(value, 0));
const reluBackward = (layer, x, grad) => grad.map((value, i) => x[i] > 0 ? value : 0);

// Fully connected: out[n] = bias[n] + sum over i of weights[n, i] * x[i]
function fullyConnected(layer, x) {
  return layer.bias.map((bias, n) => {
    let sum = bias;
    for (let i = 0; i < x.length; i++) sum += layer.weights[n * x.length + i] * x[i];
    return sum;
  });
}

function fullyConnectedBackward(layer, x, grad) {
  const gradX = new Float32Array(x.length);
  grad.forEach((value, n) => {
    if (value === 0) return;
    for (let i = 0; i < x.length; i++) gradX[i] += layer.weights[n * x.length + i] * value;
  });
  return gradX;
}

function softmax(layer, logits) {
  const largest = Math.max(...logits);  // no exp() overflows
  const exps = logits.map(logit => Math.exp(logit - largest));
  const sum = exps.reduce((a, b) => a + b);
  return exps.map(value => value / sum);
}

// --- where a value comes from ---

// The window that a value has in the image (first of the list) and in each layer up to its own, as
// {channels: [first, end], full: [top, left, bottom, right], clipped: the same without padding}.
// Ends, bottoms and rights are one after the last. A value n of a vector is c = n, y = x = 0.
function sources(net, layerIndex, c, y, x) {
  let channels = [c, c + 1], window = [y, x, y + 1, x + 1];
  const windows = [];
  for (let i = layerIndex; i >= -1; i--) {
    const [, H, W] = maps(i < 0 ? net.input : net.layers[i].shape);
    const [top, left, bottom, right] = window;
    windows.unshift({channels, full: window,
      clipped: [Math.max(top, 0), Math.max(left, 0), Math.min(bottom, H), Math.min(right, W)]});
    if (i >= 0) [channels, window] = before(net.layers[i], channels, window);
  }
  return windows;
}

// What the values in a window of a layer's output come from in its input.
function before(layer, channels, window) {
  const [C, H, W] = maps(layer.inputShape);
  if (layer.kind === "fc" || layer.kind === "softmax") return [[0, C], [0, 0, H, W]];
  if (layer.kind === "flatten") {
    const [first, end] = channels;
    if (end - first > 1) return [[0, C], [0, 0, H, W]];
    const [c, y, x] = place(layer.inputShape, first);
    return [[c, c + 1], [y, x, y + 1, x + 1]];
  }
  if (layer.kind === "relu") return [channels, window];
  const size = layer.k ?? layer.size, {stride} = layer, pad = layer.pad ?? 0;
  const [top, left, bottom, right] = window;
  const start = value => value * stride - pad, end = value => (value - 1) * stride - pad + size;
  return [layer.kind === "conv" ? [0, C] : channels, [start(top), start(left), end(bottom), end(right)]];
}

const maps = shape => [...shape, 1, 1].slice(0, 3);

function place(shape, index) {
  const [, H, W] = maps(shape);
  return [Math.floor(index / (H * W)), Math.floor(index / W) % H, index % W];
}

// --- the arithmetic of one value ---

// How net.layers[layerIndex] made the value at `index` of its output: what went in, and the steps.
function terms(net, outs, layerIndex, index) {
  const layer = net.layers[layerIndex];
  const [c, y, x] = place(layer.shape, index);
  const result = outs[layerIndex + 1][index];
  return {kind: layer.kind, c, y, x, result, ...RULES[layer.kind].terms(layer, outs[layerIndex], index, c, y, x)};
}

function convolutionTerms(layer, image, index, f, y, x) {
  const {k, pad, stride} = layer, [C, H, W] = layer.inputShape, length = C * k * k;
  const filter = layer.weights.slice(f * length, (f + 1) * length), patch = new Float32Array(length);
  for (let c = 0; c < C; c++)
    for (let i = 0; i < k; i++)
      for (let j = 0; j < k; j++) {
        const row = y * stride + i - pad, column = x * stride + j - pad;
        if (row >= 0 && row < H && column >= 0 && column < W)
          patch[(c * k + i) * k + j] = image[(c * H + row) * W + column];
      }
  const products = patch.map((value, i) => value * filter[i]);
  return {shape: [C, k, k], patch, filter, products, sum: total(products), bias: layer.bias[f]};
}

function poolingTerms(layer, input, index, c, y, x) {
  const {size, stride} = layer, [, H, W] = layer.inputShape;
  const values = new Float32Array(size * size);
  for (let i = 0; i < size; i++)
    for (let j = 0; j < size; j++) values[i * size + j] = input[(c * H + y * stride + i) * W + x * stride + j];
  return {shape: [size, size], values, winner: values.indexOf(Math.max(...values))};
}

const reluTerms = (layer, x, index) => ({value: x[index]});
const flattenTerms = (layer, x, index) => ({value: x[index], from: place(layer.inputShape, index)});

const LARGEST = 10;

function fullyConnectedTerms(layer, x, n) {
  const weights = layer.weights.subarray(n * x.length, (n + 1) * x.length);
  const products = x.map((value, i) => value * weights[i]);
  const order = [...products.keys()].sort((a, b) => Math.abs(products[b]) - Math.abs(products[a]));
  const largest = order.slice(0, LARGEST).map(i => ({index: i, value: x[i], weight: weights[i], product: products[i]}));
  const sum = total(products);
  const rest = sum - largest.reduce((a, term) => a + term.product, 0);
  return {largest, rest, numInputs: x.length, sum, bias: layer.bias[n]};
}

function softmaxTerms(layer, logits, index) {
  const exps = Float64Array.from(logits, Math.exp);
  return {logit: logits[index], exp: exps[index], exps, sum: total(exps)};
}

const total = values => values.reduce((a, b) => a + b, 0);

// --- why this class? ---

// A square of the training mean laid over the image, place after place: by how much each takes the
// class's logit down.
function occlusion(net, x, classIndex, size, stride) {
  const [C, H, W] = net.input;
  const rows = Math.floor((H - size) / stride) + 1, columns = Math.floor((W - size) / stride) + 1;
  const logit = image => forward(net, image)[net.layers.length - 1][classIndex];
  const seen = logit(x), values = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const covered = x.slice();
      for (let c = 0; c < C; c++)
        for (let i = 0; i < size; i++) {
          const start = (c * H + row * stride + i) * W + column * stride;
          covered.fill(0, start, start + size);
        }
      values[row * columns + column] = seen - logit(covered);
    }
  return {values, rows, columns, size, stride};
}

// --- a network from the page ---

// Pixels from 0 to 255, [C, H, W], as the network was trained with them.
function normalised(net, pixels) {
  const perChannel = pixels.length / net.input[0];
  return Float32Array.from(pixels, (pixel, i) => {
    const c = Math.floor(i / perChannel);
    return (pixel / 255 - net.mean[c]) / net.deviation[c];
  });
}

// A network with its sizes, from what export.py wrote of it. A promise, for unpacking takes a moment.
async function decode(spec) {
  const numbers = halves(await inflated(spec.weights));
  const net = {...spec, weights: undefined, layers: []};
  let shape = spec.input, used = 0, field = {receptiveField: 1, jump: 1, start: 0};
  const taken = number => numbers.subarray(used, used += number);
  for (const given of [...spec.layers, {name: "softmax", kind: "softmax"}]) {
    const layer = {...given, inputShape: shape, numParams: 0};
    const [C, H, W] = maps(shape), {kind, stride} = layer;
    if (kind === "conv") {
      const outputs = size => Math.floor((size + 2 * layer.pad - layer.k) / stride) + 1;
      shape = [layer.F, outputs(H), outputs(W)];
      [layer.weights, layer.bias] = [taken(layer.F * C * layer.k ** 2), taken(layer.F)];
    } else if (kind === "pool") {
      shape = [C, ...[H, W].map(size => Math.floor((size - layer.size) / stride) + 1)];
    } else if (kind === "flatten") {
      shape = [C * H * W];
    } else if (kind === "fc") {
      shape = [layer.F];
      [layer.weights, layer.bias] = [taken(layer.F * C), taken(layer.F)];
    }
    layer.shape = shape;
    layer.numOutputs = shape.reduce((a, b) => a * b);
    layer.numParams = (layer.weights?.length ?? 0) + (layer.bias?.length ?? 0);
    const {receptiveField, jump, start} = field, size = layer.k ?? layer.size ?? 1;
    field = {receptiveField: receptiveField + (size - 1) * jump, jump: jump * (stride ?? 1), start: start - (layer.pad ?? 0) * jump};
    // of a map: rows an output sees, pixels from one output to the next, the first row the first one sees
    Object.assign(layer, shape.length === 3 ? field : {receptiveField: null, jump: null, start: null});
    net.layers.push(layer);
  }
  return net;
}

async function inflated(base64) {
  const octets = Uint8Array.from(atob(base64), character => character.charCodeAt(0));
  const stream = new Blob([octets]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Floats of 16 bits: a sign, 5 bits of exponent, 10 of mantissa. All low bytes come before the high ones.
function halves(octets) {
  const values = new Float32Array(2 ** 16), length = octets.length / 2;
  for (let bits = 0; bits < 2 ** 15; bits++) {
    const exponent = bits >> 10, mantissa = (bits & 1023) / 1024;
    values[bits] = exponent ? 2 ** (exponent - 15) * (1 + mantissa) : 2 ** -14 * mantissa;
    values[bits + 2 ** 15] = -values[bits];
  }
  return Float32Array.from({length}, (_, i) => values[octets[i] + 256 * octets[length + i]]);
}

// The network in the block of the page with that id.
const open = id => decode(JSON.parse(document.getElementById(id).textContent));

const RULES = {
  conv: {forward: convolution, backward: convolutionBackward, terms: convolutionTerms},
  pool: {forward: pooling, backward: poolingBackward, terms: poolingTerms},
  relu: {forward: relu, backward: reluBackward, terms: reluTerms},
  flatten: {forward: (layer, x) => x.slice(), backward: (layer, x, grad) => grad, terms: flattenTerms},
  fc: {forward: fullyConnected, backward: fullyConnectedBackward, terms: fullyConnectedTerms},
  softmax: {forward: softmax, terms: softmaxTerms},
};

return {open, decode, normalised, forward, gradient, occlusion, sources, terms, place};
})();
