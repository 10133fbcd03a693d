// Test images to choose from, a strip for each kind.
class Images {
  constructor(host, chosen) {
    Object.assign(this, {host, chosen, shape: null});
    host.addEventListener("click", event => this.take(event.target.closest("[role=option]")));
    host.addEventListener("keydown", event => this.key(event));
  }

  // Show the images of that shape; returns the first of them, or null.
  offer(shape) {
    this.shape = shape;
    const groups = this.groups(shape);
    this.host.replaceChildren(...groups.map(({title, images}, g) => element("div", {className: "choice"},
      element("span", {id: `explore-choice-${g}`}, title),
      element("div", {role: "listbox", "aria-orientation": "horizontal", "aria-labelledby": `explore-choice-${g}`},
        ...images.map((image, i) => this.option(image, i === 0))))));
    return groups[0]?.images[0] ?? null;
  }

  option(image, isStop) {
    const canvas = asCanvas(image.pixels, image.shape);
    const said = {"aria-selected": "false", "aria-label": image.label, title: image.label};
    const made = element("span", {role: "option", tabIndex: isStop ? 0 : -1, ...said}, canvas);
    made.image = image;
    return made;
  }

  take(option) {
    if (option) this.chosen(option.image);
  }

  // Mark the image that is on the pad; none where there is something else.
  mark(image) {
    for (const option of this.host.querySelectorAll("[role=option]")) option.setAttribute("aria-selected", option.image === image);
  }

  key(event) {
    const option = event.target.closest("[role=option]");
    if (!option || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = [...option.parentNode.children], at = all.indexOf(option);
    const next = {ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1, Enter: at, " ": at}[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const to = all[next];
    if (!to) return;
    [option.tabIndex, to.tabIndex] = [-1, 0];
    to.focus();
    this.take(to);
  }

  groups(shape) {
    const all = JSON.parse(document.getElementById("network-images").textContent);
    const size = shape.reduce((a, b) => a * b);
    return all.filter(group => String(group.shape) === String(shape)).map(({title, labels, pixels}) => {
      const octets = Uint8Array.from(atob(pixels), character => character.charCodeAt(0));
      const image = i => Float32Array.from(octets.subarray(i * size, (i + 1) * size), octet => octet / 255);
      return {title, images: labels.map((label, i) => ({label, shape, pixels: image(i)}))};
    });
  }
}
