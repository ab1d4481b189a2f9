// What scrolls can be reached by keys, as long as there is something to scroll.
const boxes = "article pre, article .table-wrapper, article .drawing, article .output, article .matrix, .h3ref-drawing";
function reach() {
  for (const box of document.querySelectorAll(boxes)) {
    if (box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1) box.setAttribute("tabindex", "0");
    else if (box.getAttribute("tabindex") === "0") box.removeAttribute("tabindex");
  }
}
document.addEventListener("DOMContentLoaded", reach);
window.addEventListener("load", reach);
window.addEventListener("resize", reach);
