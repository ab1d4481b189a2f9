// What scrolls can be reached by keys and shows that there is more, as long as there is something to scroll.
const boxes = "article pre, article .table-wrapper, article .drawing, article .output, article .matrix, .h3ref-drawing";
const tables = ".table-wrapper, .matrix";

function reach() {
  for (const box of document.querySelectorAll(boxes)) {
    const wide = box.scrollWidth > box.clientWidth + 1;
    if (wide || box.scrollHeight > box.clientHeight + 1) box.setAttribute("tabindex", "0");
    else if (box.getAttribute("tabindex") === "0") box.removeAttribute("tabindex");
    if (box.matches(tables)) say(box, wide);
    fade(box);
  }
}

function say(table, wide) {
  const said = table.previousElementSibling?.matches(".scrolls") ? table.previousElementSibling : null;
  if (!wide) said?.remove();
  else if (!said) {
    const words = document.createElement("p");
    words.className = "scrolls";
    words.textContent = "this table scrolls →";
    table.before(words);
  }
}

function fade(box) {
  box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
}

document.addEventListener("DOMContentLoaded", reach);
window.addEventListener("load", reach);
window.addEventListener("resize", reach);
document.addEventListener("scroll", ({ target }) => target.matches?.(boxes) && fade(target), { capture: true, passive: true });
