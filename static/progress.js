// A page that is exchanged part by part while somebody reads it: what has not changed stays, and so does where they are.
"use strict";

(() => {
  const places = new Map();
  const scrolled = (part) => [part, ...part.querySelectorAll("[id]")].filter((one) => one.matches(".scroll, .log"));
  const atEnd = (one) => one.scrollHeight - one.clientHeight - one.scrollTop < 4;

  document.addEventListener("htmx:oobBeforeSwap", ({ target, detail }) => {
    if (detail.fragment.firstElementChild?.isEqualNode(target)) {
      detail.shouldSwap = false;
      return;
    }
    for (const one of scrolled(target)) {
      places.set(one.id, { left: one.scrollLeft, top: one.matches(".log") && atEnd(one) ? Infinity : one.scrollTop });
    }
  });

  const putBack = () => {
    for (const [id, { left, top }] of places) {
      const one = document.getElementById(id);
      if (one) [one.scrollLeft, one.scrollTop] = [left, Math.min(top, one.scrollHeight)];
    }
    places.clear();
  };
  document.addEventListener("htmx:oobAfterSwap", putBack);

  // the whole of it, when the round has gone on to another stage: what was open or held the focus does so again
  let kept = { open: [], focus: "" };
  document.addEventListener("htmx:beforeSwap", ({ target }) => {
    if (target.id !== "round") return;
    kept = { open: [...target.querySelectorAll("details[open][id]")].map(({ id }) => id), focus: document.activeElement.id };
  });
  document.addEventListener("htmx:afterSwap", ({ target }) => {
    if (target.id !== "round") return;
    for (const id of kept.open) document.getElementById(id)?.setAttribute("open", "");
    if (kept.focus) document.getElementById(kept.focus)?.focus({ preventScroll: true });
    toEnd();
  });

  const toEnd = () => document.querySelectorAll(".log").forEach((one) => { one.scrollTop = one.scrollHeight; });
  document.addEventListener("DOMContentLoaded", toEnd);

  const lost = (now) => { const said = document.getElementById("live-lost"); if (said) said.hidden = !now; };
  for (const name of ["htmx:sendError", "htmx:timeout", "htmx:responseError"]) document.addEventListener(name, () => lost(true));
  document.addEventListener("htmx:afterOnLoad", ({ detail }) => { if (detail.xhr.status < 400) lost(false); });
})();
