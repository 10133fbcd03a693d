// The networks of the page, at work: on every stroke the picture runs through those that are chosen,
// and all that shows it is painted anew.
const NEAR = "600px";  // below the window, where the section begins to load
const QUIET = 700;  // ms without a stroke, after which the answer is said
// What to do on the pad, in a sentence and on the pad itself.
function invitations(shape) {
  if (shape[0] === 3) return ["Paint over the image", "paint over it"];
  return shape.join() === "1,28,28" ? ["Draw a digit", "draw a digit here"] : ["Draw", "draw here"];
}

class Explorer {
  constructor(host) {
    const find = name => host.querySelector(name);
    Object.assign(this, {host, results: new Map(), opened: new Map(), networks: []});
    this.parts = {networks: find(".networks"), note: find(".network-note"),
      got: find(".got canvas"), caption: find(".got figcaption"),
      verdict: find(".verdict"), chances: find(".chances"), status: find("[role=status]"), explain: find(".explain"),
      onTop: find(".on-top"), color: find(".color"), invite: find(".invite"), doing: find(".doing")};
    this.pad = new Pad(find(".pad"), () => this.update(), text => this.say(text));
    this.stack = new LayerStack(find(".stack"), (maps, index) => this.point(maps, index), (maps, index) => this.choose(maps, index));
    this.explain = new Explain(this.parts.explain, () => this.choose(null, null));
    this.why = new Why(find(".why"));
    this.images = new Images(find(".choices"), image => this.show(image));
    host.addEventListener("click", event => this.use(event.target.closest?.("[data-tool]")?.dataset.tool));
    host.addEventListener("change", event => this.change(event.target));
    host.addEventListener("keydown", event => { if (event.key === "Escape" && !event.defaultPrevented) this.choose(null, null); });
    Colors.scheme.addEventListener("change", () => this.recolor());
    for (const [type, onPaper] of [["beforeprint", true], ["afterprint", false]])
      addEventListener(type, () => { Colors.onPaper = onPaper; this.recolor(); });
  }

  // Read what the page has, at the start and whenever it has got more.
  async follow() {
    const blocks = [...document.querySelectorAll("[aria-labelledby=network] > script")].map(block => block.textContent);
    const known = blocks.map(text => text.length + text.slice(-99)).join();
    if (known === this.known || !blocks.length) return;
    this.known = known;
    await this.load(JSON.parse(document.getElementById("networks").textContent));
  }

  async load(index) {
    this.index = index;
    this.opened.clear();
    this.parts.networks.replaceChildren(this.parts.networks.firstElementChild, ...index.map(one => this.choice(one)));
    const before = this.networks.map(network => network.id).filter(id => index.some(one => one.id === id));
    this.images.shape = null;
    if (index.length) await this.select(before.length ? before : [index[0].id]);
  }

  choice({id, title, accuracy}) {
    const box = element("input", {type: "checkbox", value: id});
    const known = accuracy === null ? "" : ` ${percent(accuracy, 2)} `;
    return element("label", {}, box, element("span", {}, title, element("span", {className: "faint"}, known)));
  }

  async open(id) {
    if (!this.opened.has(id)) {
      const network = await Network.open(id);
      this.opened.set(id, Object.assign(network, {id, label: this.index.find(one => one.id === id).title}));
    }
    return this.opened.get(id);
  }

  // Only networks for images of one shape can stand side by side: that of the last one.
  async select(ids) {
    const turn = this.turn = (this.turn ?? 0) + 1;
    const all = await Promise.all(ids.map(id => this.open(id))), shape = all.at(-1).input.join();
    if (turn !== this.turn) return;  // others have been chosen meanwhile
    this.networks = this.index.map(({id}) => all.find(network => network.id === id && network.input.join() === shape)).filter(Boolean);
    const [first] = this.networks;
    this.setControls(first.input[0] === 3);
    const isOther = String(this.pad.shape) !== shape, isNew = this.pad.isUntouched ?? true;
    this.stack.show(this.networks);
    this.why.setClasses(first.classes);
    this.showChances(first.classes);
    if (isOther || !this.images.shape) {
      this.pad.shape = first.input;
      const image = this.images.offer(first.input);
      if (isOther || isNew) this.pad.reset(image);
    }
    this.keepChosen(isOther ? null : this.chosen);
    this.run();
  }

  setControls(isColor) {
    const {networks, note, onTop, color} = this.parts, isShown = id => this.networks.some(network => network.id === id);
    for (const box of networks.querySelectorAll("input")) box.checked = isShown(box.value);
    note.textContent = this.index.filter(({id}) => isShown(id)).map(one => one.note).join(" ");
    this.host.dataset.nets = this.networks.length;
    [onTop.hidden, color.hidden] = [isColor, !isColor];
    this.pad.color = isColor ? color.querySelector("input").value : "#ffffff";
    this.pad.onTop = isColor || onTop.querySelector("input").checked;
  }

  keepChosen(chosen) {
    this.pointed = null;
    this.chosen = null;
    const row = chosen && this.stack.rows.find(row => row.index === chosen.maps.index);
    const maps = row?.maps.find(part => part.network === chosen.maps.network) ?? row?.maps[0];
    if (maps && areAlike(maps.network, chosen.maps.network, row.index)) this.chosen = {maps, index: chosen.index};
    this.stack.chosen = this.chosen;
  }

  show(image) {
    this.pad.show(image);
    this.say(image.label);
  }

  use(tool) {
    if (tool === "undo") this.pad.undo();
    if (tool === "clear") this.pad.clear();
  }

  change(control) {
    if (control.closest(".networks")) {
      const ids = [...this.parts.networks.querySelectorAll(":checked")].map(box => box.value).filter(id => id !== control.value);
      if (control.checked) this.select([...ids, control.value]);
      else if (ids.length) this.select(ids);
      else control.checked = true;
    }
    if (control.closest(".on-top")) this.pad.onTop = control.checked;
    if (control.closest(".color")) this.pad.color = control.value;
  }

  point(maps, index) {
    const isSame = maps === (this.pointed?.maps ?? null) && index === (this.pointed?.index ?? null);
    if (isSame) return;
    this.pointed = index === null ? null : {maps, index};
    this.paintChosen();
  }

  choose(maps, index) {
    this.chosen = this.stack.chosen = index === null ? null : {maps, index};
    this.pointed = null;
    this.paintChosen();
    if (index === null) return;
    this.say(`${maps.layer.name} ${where(this.chosen)}: ${valueText(maps, this.results.get(maps.network).outs, index)}`);
  }

  // Run with the next frame, once for all that has been drawn since the last.
  update() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.run();
    });
  }

  run() {
    if (!this.networks.length) return;
    const pixels = this.pad.pixels(), octets = pixels.map(pixel => 255 * pixel);
    this.results = new Map(this.networks.map(network =>
      [network, {pixels, outs: Network.forward(network, Network.normalised(network, octets))}]));
    this.paint();
    this.why.show(this.results);
    clearTimeout(this.saying);
    this.saying = setTimeout(() => this.say(this.answer()), QUIET);
  }

  paint() {
    if (!this.results.size) return;
    const {pad, parts} = this, [{pixels}] = this.results.values();
    this.images.mark(pad.image);
    asCanvas(pixels, pad.shape, parts.got);
    const [, H, W] = pad.shape;
    const said = pad.image ? pad.strokes.length ? "" : `; the test image is ${pad.image.label}` : pad.shape[0] === 1 ? ", placed as in MNIST" : "";
    parts.caption.textContent = `what the network gets: ${H} × ${W} pixels${said}`;
    [parts.doing.textContent, parts.invite.textContent] = invitations(pad.shape);
    parts.invite.hidden = !pad.isEmpty && !pad.isUntouched;
    this.paintChances();
    this.stack.paint(this.results);
    this.paintChosen();
  }

  recolor() {
    this.paint();
    this.why.recolor();
  }

  paintChosen() {
    const chosen = this.pointed ?? this.chosen;
    this.stack.outline(chosen);
    this.host.classList.toggle("is-kept", Boolean(this.chosen) && !this.pointed);
    if (chosen) this.explain.show(chosen, this.results);
    else this.explain.invite();
  }

  showChances(classes) {
    const rows = classes.map(name => element("li", {}, element("span", {className: "class"}, name),
      element("span", {className: "tracks"}, ...this.networks.map(() => element("i", {}, element("b", {}))))));
    this.parts.chances.replaceChildren(element("ol", {className: "probabilities"}, ...rows));
  }

  paintChances() {
    const all = [...this.results.values()].map(({outs}) => outs.at(-1)), {verdict, chances} = this.parts;
    chances.querySelectorAll("li").forEach((row, c) => {
      row.querySelectorAll("i").forEach((track, n) => {
        track.style.setProperty("--share", all[n][c]);
        track.firstElementChild.textContent = all.length > 1 && all[n][c] < 0.0005 ? "" : percent(all[n][c]);
        track.classList.toggle("first", c === strongest(all[n]));
      });
    });
    verdict.replaceChildren(...this.networks.map((network, n) => {
      const c = strongest(all[n]);
      return element("p", {}, ...this.networks.length > 1 ? [element("span", {className: "faint"}, network.label)] : [],
        element("strong", {}, network.classes[c]), element("span", {className: "faint"}, percent(all[n][c])));
    }));
    if (this.pad.isEmpty) verdict.append(element("p", {className: "faint empty"}, "Nothing is drawn; a network answers all the same."));
  }

  answer() {
    return this.networks.map(network => {
      const shares = this.results.get(network).outs.at(-1), order = [...shares.keys()].sort((a, b) => shares[b] - shares[a]);
      const [first, second] = order.map(c => `${network.classes[c]}, ${percent(shares[c])}`);
      return `${this.networks.length > 1 ? `${network.label}: ` : ""}${first}; then ${second}`;
    }).join(". ");
  }

  say(text) { this.parts.status.textContent = text; }
}

// A page that follows a run asks itself in a hidden frame: nothing is to be built there. What it
// then changes in the page is read here; the section keeps its place and its drawing.
let explorer = null;

function follow() {
  explorer?.follow().catch(error =>  // an old browser, which cannot unpack
    explorer.host.replaceChildren(element("p", {className: "note"}, `This browser cannot show the networks: ${error.message}`)));
}

function begin() {
  const host = document.getElementById("explore");
  if (!host || host === explorer?.host) return;
  if (explorer) { host.replaceWith(explorer.host); return; }
  if (!host.hidden) return;
  host.hidden = false;
  new IntersectionObserver((entries, observer) => {
    if (!entries.some(entry => entry.isIntersecting)) return;
    observer.disconnect();
    explorer ??= new Explorer(host);
    follow();
  }, {rootMargin: NEAR}).observe(host);
}

if (asked === null) {
  begin();
  document.addEventListener("refresh", () => { begin(); follow(); });
}
