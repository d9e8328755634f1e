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

  const toEnd = () => document.querySelectorAll(".log").forEach((one) => { one.scrollTop = one.scrollHeight; });
  document.addEventListener("DOMContentLoaded", toEnd);
  document.addEventListener("htmx:afterSwap", ({ target }) => { if (target.id === "round") toEnd(); });

  const lost = (now) => { const said = document.getElementById("live-lost"); if (said) said.hidden = !now; };
  for (const name of ["htmx:sendError", "htmx:timeout", "htmx:responseError"]) document.addEventListener(name, () => lost(true));
  document.addEventListener("htmx:afterOnLoad", ({ detail }) => { if (detail.xhr.status < 400) lost(false); });
})();
