"use strict";
// The networks that the page carries, unpacked for forward.js when they are asked for.
Object.assign(Network, (() => {

// The network in the block with that id; a promise.
const open = id => decode(JSON.parse(document.getElementById(id).textContent));

// Pixels from 0 to 255, [C, H, W], as the network was trained with them.
function normalised(net, pixels) {
  const perChannel = pixels.length / net.input[0];
  return Float32Array.from(pixels, (pixel, i) => {
    const c = Math.floor(i / perChannel);
    return (pixel / 255 - net.mean[c]) / net.deviation[c];
  });
}

// What export.py wrote of a network, as forward.js takes it; softmax is its last layer.
async function decode(spec) {
  const numbers = floats(await inflated(spec.weights));
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
    if (["fc", "softmax"].includes(layer.kind)) sight = {receptiveField: null, jump: null, start: null};
    else if (sight.receptiveField) sight = sightOf(layer, sight);
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

// A bfloat16 is the upper half of a Float32. All low bytes come before the high ones.
function floats(octets) {
  const length = octets.length / 2, bits = new Uint32Array(length);
  for (let i = 0; i < length; i++) bits[i] = octets[length + i] << 24 | octets[i] << 16;
  return new Float32Array(bits.buffer);
}

return {open, decode, normalised};
})());
