// The filters through time: a slider for their pictures, and a button that plays them.
const stillness = matchMedia("(prefers-reduced-motion: reduce)");
const playing = new WeakMap();  // slider -> its timer
const pictures = new WeakMap();  // slider -> {text, frames}, so that the text is read once

function framesOf(slider) {
  const text = slider.querySelector("script").textContent;
  if (pictures.get(slider)?.text !== text) pictures.set(slider, {text, frames: JSON.parse(text)});
  return pictures.get(slider).frames;
}

function showFrame(slider) {
  const range = slider.querySelector("input"), now = slider.querySelector(".now"), image = now.querySelector("img");
  const {address, label} = framesOf(slider)[range.value];
  if (image.src !== address) image.src = address;
  image.alt = "filters of the first layer, " + label;
  now.querySelector("figcaption").textContent = label;
  range.setAttribute("aria-valuetext", label);
  const button = slider.querySelector(".play");
  button.classList.toggle("on", playing.has(slider));
  button.textContent = stillness.matches ? "Next epoch" : playing.has(slider) ? "Pause" : "Play";
}

function moveTo(slider, number) {
  slider.querySelector("input").value = number;
  showFrame(slider);
  follow(slider, framesOf(slider)[number].epoch);
}

function pause(slider) {
  clearInterval(playing.get(slider));
  playing.delete(slider);
  showFrame(slider);
}

function play(slider) {
  const range = slider.querySelector("input"), frames = framesOf(slider), last = () => Number(range.max);
  const atEnd = Number(range.value) === last();
  if (stillness.matches) {  // nothing moves by itself: each press shows the end of the next epoch
    const epoch = frames[range.value].epoch + 1;
    const next = frames.findLastIndex(frame => frame.epoch <= epoch);
    return moveTo(slider, atEnd ? 0 : Math.max(next, Number(range.value) + 1));
  }
  if (playing.has(slider)) return pause(slider);
  if (atEnd) moveTo(slider, 0);
  const wait = Math.min(600, Math.max(150, 8000 / frames.length));
  playing.set(slider, setInterval(() => {
    if (!slider.isConnected) return pause(slider);
    moveTo(slider, Math.min(Number(range.value) + 1, last()));
    if (Number(range.value) === last()) pause(slider);
  }, wait));
  showFrame(slider);
}

document.addEventListener("refresh", () => document.querySelectorAll(".slider").forEach(showFrame));
document.addEventListener("input", event => {
  const slider = event.target.closest(".slider");
  if (!slider) return;
  pause(slider);
  moveTo(slider, event.target.value);
});
document.addEventListener("click", event => {
  if (event.target.matches?.(".play")) play(event.target.closest(".slider"));
});
stillness.addEventListener("change", () => document.querySelectorAll(".slider").forEach(pause));
