"use strict";
// Keeps an open page up to date: the daemon sends each section that has changed, rendered.
(() => {
  const address = document.body.dataset.events;
  const controls = document.querySelector("[data-live]");
  if (!address || !controls || !window.EventSource) return;
  const state = controls.querySelector("[role=status]");
  const button = controls.querySelector("button");
  const words = controls.dataset;
  const waiting = new Map();
  let source = null;
  let later = null;
  let isPaused = false;

  const say = (text) => { if (state.textContent !== text) state.textContent = text; };

  // A person who selects text in a section keeps it until the selection is gone.
  const isSelected = (section) => {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && selection.containsNode(section, true);
  };

  // The path of child numbers from a section to what has the focus, which finds it again in the new section.
  const pathTo = (section, element) => {
    const path = [];
    for (let at = element; at !== section; at = at.parentNode) {
      path.unshift(Array.prototype.indexOf.call(at.parentNode.children, at));
    }
    return path;
  };

  const swap = (id, html) => {
    const old = document.getElementById(id);
    if (!old || old.outerHTML === html) return;
    if (isSelected(old)) { waiting.set(id, html); return; }
    waiting.delete(id);
    const template = document.createElement("template");
    template.innerHTML = html;
    const fresh = template.content.firstElementChild;
    if (!fresh || fresh.id !== id) return;
    const active = old.contains(document.activeElement) ? document.activeElement : null;
    const path = active ? pathTo(old, active) : null;
    const scrolled = Array.from(old.querySelectorAll(".scroll"), (one) => [one.scrollLeft, one.scrollTop]);
    if (old.getAttribute("aria-live")) {
      // A reader announces what changes inside a live region, not a region that is new.
      if (old.innerHTML !== fresh.innerHTML) old.replaceChildren(...fresh.childNodes);
      return;
    }
    old.replaceWith(fresh);
    fresh.querySelectorAll(".scroll").forEach((one, place) => {
      if (scrolled[place]) [one.scrollLeft, one.scrollTop] = scrolled[place];
    });
    if (path) {
      const again = path.reduce((at, place) => at && at.children[place], fresh);
      if (again) again.focus({ preventScroll: true });
    }
  };

  const open = () => {
    clearTimeout(later);
    source = new EventSource(address);
    source.addEventListener("open", () => say(words.on));
    source.addEventListener("section", (event) => {
      const section = JSON.parse(event.data);
      swap(section.id, section.html);
    });
    source.addEventListener("error", () => {
      say(words.lost);
      // A browser does not come back by itself after a refusal, such as of one page too many.
      if (source.readyState === EventSource.CLOSED) later = setTimeout(open, 15000);
    });
  };

  const close = () => { clearTimeout(later); source.close(); };

  document.addEventListener("selectionchange", () => {
    for (const [id, html] of Array.from(waiting)) swap(id, html);
  });
  button.addEventListener("click", () => {
    isPaused = !isPaused;
    button.textContent = isPaused ? words.resume : words.pause;
    if (isPaused) { close(); say(words.off); } else { open(); }
  });
  window.addEventListener("pagehide", () => source.close());
  controls.hidden = false;
  open();
})();
