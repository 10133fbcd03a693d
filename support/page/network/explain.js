// Beside the layers: where a value lies, what it sees, and the sum that made it.
const SHOWN_CHANNELS = 64;  // with their pictures

class Explain {
  // letGo(): the value is no longer to stay
  constructor(host, letGo) {
    Object.assign(this, {host, letGo});
    this.channel = null;  // of a convolution's input, whose numbers are shown; null: the largest sum
    host.addEventListener("click", event => {
      const button = event.target.closest("button");
      if (button?.className === "close") this.letGo();
      if (button?.dataset.channel === undefined) return;
      this.channel = Number(button.dataset.channel);
      this.show(...this.last);
      host.querySelector(`button[data-channel="${this.channel}"]`)?.focus();
    });
  }

  invite() {
    this.last = null;
    const text = "Point at any value of any layer, or tap on it: here you see the sum that made it.";
    this.host.replaceChildren(element("p", {className: "faint"}, text));
  }

  // results: a Map from each network to {pixels, outs}; chosen: {maps, index}
  show(chosen, results) {
    if (this.last?.[0].maps.index !== chosen.maps.index) this.channel = null;
    this.last = [chosen, results];
    const {maps, index} = chosen, {network, layer} = maps, {pixels, outs} = results.get(network);
    const steps = maps.index < 0 ? this.pixel(network, pixels, outs[0], index)
      : this[layer.kind](Network.terms(network, outs, maps.index, index), network, maps.index);
    const more = steps.filter(part => part.className === "channels").concat(this.others(chosen, results));
    const about = element("div", {},
      element("button", {type: "button", className: "close", ariaLabel: "let this value go"}, "×"),
      element("p", {className: "where"}, element("b", {}, layer.name), ` ${where(chosen)}`));
    if (results.size > 1) about.append(element("p", {className: "faint"}, network.label));
    about.append(element("p", {className: "result"}, valueText(maps, outs, index)));
    if (maps.index >= 0) about.append(this.glimpse(chosen, pixels));
    this.host.replaceChildren(about, element("div", {}, ...steps.filter(part => !more.includes(part))), element("div", {}, ...more));
  }

  // The image, with what of it this value can see.
  glimpse(chosen, pixels) {
    const {network, index} = chosen.maps, [, H, W] = network.input;
    const [{full, clipped}] = Network.sources(network, index, ...placeOf(chosen));
    const [top, left, bottom, right] = clipped, frame = element("i", {});
    const box = {top: top / H, left: left / W, height: (bottom - top) / H, width: (right - left) / W};
    for (const [name, share] of Object.entries(box)) frame.style[name] = `${100 * share}%`;
    const isAll = bottom - top === H && right - left === W;
    const seen = isAll ? "It sees the whole image" : `It sees rows ${top} to ${bottom - 1} and columns ${left} to ${right - 1} of the image`;
    const edge = !isAll && full.join() !== clipped.join() ? "; beyond its edge, zeros." : ".";
    return element("div", {className: "glimpse"},
      element("span", {className: "plane"}, asCanvas(pixels, network.input), frame), element("p", {}, seen + edge));
  }

  pixel(network, pixels, x, index) {
    const [C, H, W] = network.input, isDivided = network.deviation.some(deviation => deviation !== 1);
    const rows = Array.from({length: C}, (_, c) => {
      const i = c * H * W + index, less = `${inWords(pixels[i], 3)} − ${inWords(network.mean[c], 3)}`;
      return [C === 1 ? "the pixel" : channelName(C, c, -1), isDivided ? `(${less}) ÷ ${inWords(network.deviation[c], 3)}` : less, inWords(x[i], 3)];
    });
    return [line(`The brightness, from 0 to 1, less the mean of the training images${isDivided ? ", divided by their deviation" : ""}:`), sums(rows)];
  }

  conv({shape: [C, k], patch, filter, products, sum, bias, result, c}, network, index) {
    const part = (values, channel) => values.subarray(channel * k * k, (channel + 1) * k * k);
    const channelSums = Array.from({length: C}, (_, channel) => part(products, channel).reduce((a, b) => a + b, 0));
    const shown = this.channel ?? strongest(channelSums), name = channelName(C, shown, index);
    const limits = [patch, filter, products].map(values => roundLimit(values));
    const trio = channel => [patch, filter, products].map((values, i) => {
      const canvas = element("canvas", {});
      paintValues(canvas, part(values, channel), limits[i], k, k);
      return canvas;
    });
    const [seen, weights, made] = trio(shown), isColor = index === 0 && C === 3, source = before(network, index).name;
    const of = isColor ? "all 3 colours" : C > 1 ? `all ${C} maps of ${source}` : index ? `the map of ${source}` : source;
    const here = C === 1 ? "" : ` Here ${name}${this.channel === null ? ", which adds or takes most" : ""}:`;
    const rows = [[`${k * k} products${C > 1 ? ` of ${name}` : ""}`, "", inWords(channelSums[shown], 3)]];
    if (C > 1) rows.push([`the ${C - 1} other ${isColor ? "colours" : "maps"}`, "+", inWords(sum - channelSums[shown], 3)]);
    rows.push(["bias", "+", inWords(bias, 3)], ["", "=", inWords(result, 3)]);
    const content = [
      line(`Filter ${c} lies over its patch of ${of}, weight by weight.${here}`),
      element("div", {className: "trio"}, captioned(seen, "patch"), "×", captioned(weights, `filter ${c}`), "=", captioned(made, "products")),
      productTable(part(patch, shown), part(filter, shown), part(products, shown), k, limits[2]),
      sums(rows),
    ];
    if (C > 1) content.push(element("div", {className: "channels"}, ...channelSums.slice(0, SHOWN_CHANNELS).map((value, channel) =>
      element("button", {type: "button", "data-channel": channel, "aria-pressed": channel === shown},
        element("span", {}, channelName(C, channel, index)), ...trio(channel), element("span", {className: "number"}, inWords(value))))));
    return content;
  }

  pool({shape: [size], values, winner, result}) {
    const limit = roundLimit(values);
    const cells = [...values].map((value, i) =>
      colored(element("td", {className: i === winner ? "winner" : ""}, inWords(value)), value, limit));
    return [line(`The largest of these ${size * size} values of the layer before:`), numberTable(cells, size),
      sums([["the winner", "", inWords(result, 3)]])];
  }

  relu({value, result}) {
    const isOpen = value > 0;
    return [line(isOpen ? "It is above zero and passes unchanged:" : "It is not above zero, so it becomes 0, and no gradient comes back:"),
      sums([["", `max(0, ${inWords(value, 3)}) =`, inWords(result, 3)]])];
  }

  fc({largest, rest, numInputs, bias, result}, network, index) {
    const most = Math.max(...largest.map(term => Math.abs(term.product))) || 1;
    const number = text => element("td", {className: "number"}, text);
    const body = largest.map(({index: from, value, weight, product}) => {
      const cell = element("td", {className: "number product"}, inWords(product));
      cell.style.setProperty("--share", Math.abs(product) / most);
      cell.style.setProperty("--color", Colors.of(Math.sign(product) * 0.6, 1));
      return element("tr", {}, element("th", {scope: "row"}, origin(network, index, from)), number(inWords(value)), number(inWords(weight, 3)), cell);
    });
    const titles = [`value of ${before(network, index).name}`, "it is", "× weight", "= product"];
    const head = titles.map((text, i) => element("th", {scope: "col", className: i ? "number" : ""}, text));
    const ten = largest.reduce((sum, term) => sum + term.product, 0), count = value => value.toLocaleString("en");
    return [line(`A weighted sum of all ${count(numInputs)} values of the layer before. The ${largest.length} products that count most:`),
      element("table", {className: "terms"}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body)),
      sums([[`these ${largest.length}`, "", inWords(ten, 3)], [`the ${count(numInputs - largest.length)} others`, "+", inWords(rest, 3)],
        ["bias", "+", inWords(bias, 3)], ["", "=", inWords(result, 3)]])];
  }

  softmax({c, logit, exps, sum, result}) {
    return [line("e to the power of its logit, as a share of the sum over all classes:"),
      sums([[`e to the ${inWords(logit)}`, "", power(exps[c])], ["sum of all", "÷", power(sum)], ["", "=", percent(result)]])];
  }

  others({maps, index}, results) {
    const rows = [...results]
      .filter(([network]) => network !== maps.network && areAlike(network, maps.network, maps.index))
      .map(([network, {outs}]) => [network.label, "", valueText(maps, outs, index)]);
    return rows.length ? [line("The same place in the other networks:"), sums(rows)] : [];
  }
}

const valueText = (maps, outs, index) =>
  maps.layer.kind === "softmax" ? percent(outs[maps.index + 1][index]) : inWords(outs[maps.index + 1][index], 3);

// index: of the layer that they go into; the first one's are those of the image.
const channelName = (C, channel, index) =>
  index > 0 || C !== 1 && C !== 3 ? `map ${channel}` : C === 1 ? "the image" : ["red", "green", "blue"][channel];

function where(chosen) {
  const [c, y, x] = placeOf(chosen), {layer, network} = chosen.maps;
  if (layer.shape.length === 3) return `${chosen.maps.index < 0 ? "" : `map ${c}, `}row ${y}, column ${x}`;
  return areClasses(chosen.maps) ? `of ${network.classes[c]}` : `number ${c}`;
}

// The layer that another gets its values from; Flatten only lists them anew.
function before(network, index) {
  const at = network.layers[index - 1]?.kind === "flatten" ? index - 2 : index - 1;
  return network.layers[at] ?? {name: "the image", shape: network.input};
}

function origin(network, index, from) {
  const {shape} = before(network, index), [c, y, x] = Network.place(shape, from);
  return shape.length === 3 ? `map ${c}, row ${y}, col. ${x}` : `number ${from}`;
}

const line = text => element("p", {}, text);
const captioned = (canvas, text) => element("figure", {}, canvas, element("figcaption", {}, text));
const power = value => value < 1e5 && value > 1e-2 ? inWords(value) : value.toExponential(2).replace("e+", " × 10^").replace("e-", " × 10^−");

// Black or white text, whichever has the larger contrast: above this relative luminance (of WCAG)
// black has, and at least 4.5 either way.
const AS_BRIGHT = 0.179;

function colored(cell, value, limit) {
  const color = Colors.of(value, limit);
  const [r, g, b] = color.match(/\d+/g).map(part => part / 255).map(part => part <= 0.04 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  cell.style.background = color;
  cell.style.color = 0.2126 * r + 0.7152 * g + 0.0722 * b > AS_BRIGHT ? "#000" : "#fff";
  return cell;
}

function numberTable(cells, columns, className = "numbers") {
  const rows = Array.from({length: cells.length / columns}, (_, i) => element("tr", {}, ...cells.slice(i * columns, (i + 1) * columns)));
  return element("table", {className}, element("tbody", {}, ...rows));
}

// Value × weight and their product, each in its place.
function productTable(values, weights, products, k, limit) {
  return numberTable([...products].map((product, i) => {
    const factors = element("small", {}, `${inWords(values[i])} × ${inWords(weights[i])}`);
    return colored(element("td", {}, factors, inWords(product)), product, limit);
  }), k);
}

// A sum as one writes it by hand: what, the sign, the number.
function sums(rows) {
  const made = rows.map(([what, sign, number]) => element("tr", {className: sign === "=" ? "total" : ""},
    what ? element("th", {scope: "row"}, what) : element("td"), element("td", {}, sign), element("td", {className: "number"}, number)));
  return element("table", {className: "sums"}, element("tbody", {}, ...made));
}
