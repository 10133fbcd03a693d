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
//   weights[f, c, i, j] * image[c, y*stride + i, x*stride + j],  the image with its padding.
function convolution(layer, unpadded) {
  const {F, k, stride, weights, bias} = layer, [C] = layer.inputShape, [, OH, OW] = layer.shape;
  const [image, H, W] = padded(layer, unpadded);
  const out = new Float32Array(F * OH * OW);
  for (let f = 0; f < F; f++)
    for (let y = 0; y < OH; y++)
      for (let x = 0; x < OW; x++) {
        let sum = bias[f];
        for (let c = 0; c < C; c++)
          for (let i = 0; i < k; i++) {
            const filterRow = ((f * C + c) * k + i) * k, row = (c * H + y * stride + i) * W + x * stride;
            for (let j = 0; j < k; j++) sum += weights[filterRow + j] * image[row + j];
          }
        out[(f * OH + y) * OW + x] = sum;
      }
  return out;
}

// The way back: each output hands its gradient to the pixels it has seen, times the weight between.
function convolutionBackward(layer, unpadded, grad) {
  const {F, k, stride, weights} = layer, [C] = layer.inputShape, [, OH, OW] = layer.shape;
  const [gradImage, H, W] = padded(layer, new Float32Array(unpadded.length));
  for (let f = 0; f < F; f++)
    for (let y = 0; y < OH; y++)
      for (let x = 0; x < OW; x++) {
        const value = grad[(f * OH + y) * OW + x];
        if (value === 0) continue;  // behind pooling and ReLU most are
        for (let c = 0; c < C; c++)
          for (let i = 0; i < k; i++) {
            const filterRow = ((f * C + c) * k + i) * k, row = (c * H + y * stride + i) * W + x * stride;
            for (let j = 0; j < k; j++) gradImage[row + j] += weights[filterRow + j] * value;
          }
      }
  return withoutPadding(layer, gradImage);
}

// Zeros around each channel of an image; returns it with its rows and columns.
function padded({pad, inputShape: [C, H, W]}, image) {
  const PH = H + 2 * pad, PW = W + 2 * pad, larger = new Float32Array(C * PH * PW);
  for (let c = 0; c < C; c++)
    for (let y = 0; y < H; y++)
      larger.set(image.subarray((c * H + y) * W, (c * H + y + 1) * W), (c * PH + y + pad) * PW + pad);
  return [larger, PH, PW];
}

function withoutPadding({pad, inputShape: [C, H, W]}, larger) {
  const PH = H + 2 * pad, PW = W + 2 * pad, image = new Float32Array(C * H * W);
  for (let c = 0; c < C; c++)
    for (let y = 0; y < H; y++) {
      const start = (c * PH + y + pad) * PW + pad;
      image.set(larger.subarray(start, start + W), (c * H + y) * W);
    }
  return image;
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

const RULES = {
  conv: {forward: convolution, backward: convolutionBackward, terms: convolutionTerms},
  pool: {forward: pooling, backward: poolingBackward, terms: poolingTerms},
  relu: {forward: relu, backward: reluBackward, terms: reluTerms},
  flatten: {forward: (layer, x) => x.slice(), backward: (layer, x, grad) => grad, terms: flattenTerms},
  fc: {forward: fullyConnected, backward: fullyConnectedBackward, terms: fullyConnectedTerms},
  softmax: {forward: softmax, terms: softmaxTerms},
};

return {forward, gradient, occlusion, sources, terms, place};
})();
