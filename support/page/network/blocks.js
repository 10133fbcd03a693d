"use strict";
// What the page carries for forward.js: networks and test images, unpacked when they are asked for.
Object.assign(Network, (() => {

// The network in the block with that id, and the test images in another; promises.
const open = id => decode(block(id));
const examples = id => unpackedImages(block(id));
const block = id => JSON.parse(document.getElementById(id).textContent);

// Pixels from 0 to 255, [C, H, W], as the network was trained with them.
function normalised(net, pixels) {
  const perChannel = pixels.length / net.input[0];
  return Float32Array.from(pixels, (pixel, i) => {
    const c = Math.floor(i / perChannel);
    return (pixel / 255 - net.mean[c]) / net.deviation[c];
  });
}

// --- networks ---

// What export.py wrote of a network, as forward.js takes it; softmax is its last layer.
async function decode(spec) {
  const numbers = halves(await inflated(spec.weights));
  let used = 0, shape = spec.input, sight = {receptiveField: 1, jump: 1, start: 0};
  const taken = count => numbers.subarray(used, used += count);
  const layers = [...spec.layers, {name: "softmax", kind: "softmax"}].map(given => {
    const layer = {...given, inputShape: shape, numParams: 0};
    layer.shape = shape = outputShape(layer);
    layer.numOutputs = product(shape);
    if (layer.F) {
      layer.weights = taken(layer.F * inputsOfOne(layer));
      layer.bias = taken(layer.F);
      layer.numParams = layer.weights.length + layer.bias.length;
    }
    sight = shape.length === 3 ? sightOf(layer, sight) : {receptiveField: null, jump: null, start: null};
    return Object.assign(layer, sight);
  });
  return {...spec, weights: null, layers};
}

const product = sizes => sizes.reduce((a, b) => a * b, 1);
const inputsOfOne = layer => layer.kind === "conv" ? layer.inputShape[0] * layer.k ** 2 : product(layer.inputShape);

function outputShape({kind, F, k, size = k, pad = 0, stride, inputShape}) {
  const [C, ...sizes] = inputShape;
  const outputs = pixels => Math.floor((pixels + 2 * pad - size) / stride) + 1;
  if (kind === "conv") return [F, ...sizes.map(outputs)];
  if (kind === "pool") return [C, ...sizes.map(outputs)];
  if (kind === "flatten") return [product(inputShape)];
  return kind === "fc" ? [F] : inputShape;
}

// Of a map: how many rows of pixels a value sees, how many pixels it is to the next value's, and the
// first of those that the first value sees, which padding makes negative.
const sightOf = ({k = 1, size = k, pad = 0, stride = 1}, {receptiveField, jump, start}) => ({
  receptiveField: receptiveField + (size - 1) * jump,
  start: start - pad * jump,
  jump: jump * stride,
});

async function inflated(base64) {
  const octets = Uint8Array.from(atob(base64), character => character.charCodeAt(0));
  const stream = new Blob([octets]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Floats of 16 bits: a sign, 5 bits of exponent, 10 of mantissa. All low bytes come before the high.
function halves(octets) {
  const values = new Float32Array(2 ** 16), length = octets.length / 2, numbers = new Float32Array(length);
  for (let bits = 0; bits < 2 ** 15; bits++) {
    const exponent = bits >> 10, mantissa = (bits & 1023) / 1024;
    values[bits] = exponent ? 2 ** (exponent - 15) * (1 + mantissa) : 2 ** -14 * mantissa;
    values[bits + 2 ** 15] = -values[bits];
  }
  for (let i = 0; i < length; i++) numbers[i] = values[octets[i] + 256 * octets[length + i]];
  return numbers;
}

// --- test images ---

// Tiles of pictures, as {pixels: [C, H, W] from 0 to 255, ...what is known of the image}.
async function unpackedImages({sheets, shape, items}) {
  const contexts = await Promise.all(sheets.map(drawn));
  return items.map(item => ({...item, pixels: pixels(contexts[item.sheet], item.row, item.column, shape)}));
}

// A picture in a canvas: from its address, or that of the style of an element of the page.
async function drawn({address, selector}) {
  const image = new Image();
  image.src = address ?? document.querySelector(selector).style.getPropertyValue("--sheet").slice(4, -1);
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), {width: image.width, height: image.height});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(image, 0, 0);
  return context;
}

function pixels(context, row, column, [C, H, W]) {
  const {data} = context.getImageData(column * W, row * H, W, H);  // red, green, blue, opacity
  return Uint8Array.from({length: C * H * W}, (_, i) => data[4 * (i % (H * W)) + Math.floor(i / (H * W))]);
}

return {open, examples, decode, normalised};
})());
