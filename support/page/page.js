// The page as a whole: its menu, paper, and what is done again when a live page has changed.
const page = document.getElementById("page"), menu = document.querySelector("nav details");
const wide = matchMedia("(min-width: 66rem)");  // where the menu stands beside the page

function fitMenu() {
  menu.open = wide.matches;
}

function showSection() {
  const heads = [...document.querySelectorAll("main h2[id]")];
  const current = heads.findLast(head => head.getBoundingClientRect().top < innerHeight / 3) ?? heads[0];
  for (const link of menu.querySelectorAll("a")) {
    if (link.hash === "#" + current.id) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  menu.querySelector("summary span").textContent = current.textContent;
}

menu.addEventListener("click", event => {
  if (event.target.closest("a") && !wide.matches) menu.open = false;
});
document.addEventListener("keydown", event => {
  if (event.key !== "Escape" || wide.matches || !menu.open) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});
wide.addEventListener("change", fitMenu);
let asleep = false;
addEventListener("scroll", () => {
  if (asleep) return;
  asleep = true;
  requestAnimationFrame(() => { asleep = false; showSection(); });
}, {passive: true});

let opened = [];
addEventListener("beforeprint", () => {  // what is folded for good stays so on paper
  opened = [...document.querySelectorAll("main details:not([open], .layers details, .aside)")];
  for (const details of opened) details.open = true;
});
addEventListener("afterprint", () => { for (const details of opened) details.open = false; });

function refresh() {
  document.dispatchEvent(new Event("refresh"));
  showSection();
}
fitMenu();
refresh();
