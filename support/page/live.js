// The rest follows the runs: what has changed in the file is changed in the page, nothing else.
const OURS = new Set(["open", "aria-sort", "tabindex", "data-shown", "data-overflows", "aria-current"]);  // what the reader has set

function morph(from, to) {
  if (from.isEqualNode(to) || "own" in from.dataset) return;  // data-own: a script's, to the last
  for (const {name, value} of to.attributes)
    if (!OURS.has(name) && from.getAttribute(name) !== value) from.setAttribute(name, value);
  for (const {name} of [...from.attributes])
    if (!OURS.has(name) && !to.hasAttribute(name)) from.removeAttribute(name);
  const before = [...from.childNodes], after = [...to.childNodes];
  after.forEach((node, i) => {
    const old = before[i];
    if (!old) from.append(node);
    else if (old.nodeType === 1 && old.nodeName === node.nodeName && old.id === node.id) morph(old, node);
    else if (!old.isEqualNode(node)) old.replaceWith(node);
  });
  before.slice(after.length).forEach(node => node.remove());
}

const frame = document.createElement("iframe");
frame.hidden = true;
let waiting = 0;  // seconds since the last question, while there is no answer
function ask() {
  if (!("live" in page.dataset) || document.hidden || (frame.isConnected && ++waiting < 10)) return;
  waiting = 0;
  frame.remove();
  frame.src = `?live=${page.dataset.version}`;
  document.body.append(frame);
}
addEventListener("message", event => {
  if (event.source !== frame.contentWindow) return;
  frame.remove();
  if (!event.data.page) return;
  const atEnd = [...document.querySelectorAll("input[type=range]")].filter(range => range.value === range.max);
  morph(page, new DOMParser().parseFromString(event.data.page, "text/html").getElementById("page"));
  for (const range of atEnd) range.value = range.max;
  refresh();
});
if (asked === null) setInterval(ask, 1000);
