// Keys, and what the page says when something fails. All of it can also be done with the mouse and without this file.
(() => {
  const TYPING = "textarea, select, input:not([type=radio]):not([type=checkbox])";
  const BUTTONS = {
    Enter: '.primary[value="ranked"]',
    t: 'button[value="tie"]',
    0: 'button[value="tie"]',
    g: 'button[value="all_good"]',
    n: 'button[value="all_bad"]',
    r: 'button[value="cannot_rank"]',
    Backspace: 'button[form="skip"]',
    "?": "[data-open-keys]",
    m: "[data-mark]",
  };
  const work = () => document.getElementById("work");

  function pick(name, value) {
    const radio = work()?.querySelector(`input[name="${name}"][value="${value}"]`);
    if (!radio) return false;
    radio.checked = name === "best" || !radio.checked;
    radio.dispatchEvent(new Event("change", { bubbles: true }));
    return true;
  }

  // the worst is optional: pressed again it is taken back
  let taken = null;
  document.addEventListener("pointerdown", (event) => {
    const radio = event.target.closest(".worst")?.querySelector("input");
    taken = radio?.checked ? radio : null;
  });
  document.addEventListener("click", (event) => {
    if (!taken || event.target !== taken) return;
    taken.checked = false;
    taken.dispatchEvent(new Event("change", { bubbles: true }));
    taken = null;
  });

  function press(button) {
    button?.click();
    return Boolean(button);
  }

  function unfold(id, focus) {
    const details = document.getElementById(id);
    if (!details) return false;
    details.open = true;
    details.querySelector(focus)?.focus();
    details.scrollIntoView({ block: "nearest" });
    return true;
  }

  function act(key) {
    if (/^[1-5]$/.test(key)) return pick("best", key);
    if (/^[a-e]$/.test(key)) return pick("worst", "abcde".indexOf(key) + 1);
    if (key === "o") return unfold("order", "[data-grip]");
    if (key === "x") return unfold("report", "input[name=unsafe]");
    if (key === "u") return press(document.getElementById("undo"));
    return key in BUTTONS && press(work()?.querySelector(BUTTONS[key]));
  }

  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.closest("#judgement")) {
      event.preventDefault();
      press(work().querySelector(BUTTONS.Enter));
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat || event.defaultPrevented) return;
    if (event.target.closest('[data-grip][aria-pressed="true"]')) return; // order.js: a story in the hand
    if (!work() || work().dataset.keys === "off" || document.querySelector("dialog[open]")) return;
    const control = event.target.closest("button:not([data-grip]), a, summary, [role=button]");
    if (event.target.closest(TYPING) || (control && event.key === "Enter")) return;
    if (act(event.key.length === 1 ? event.key.toLowerCase() : event.key)) event.preventDefault();
  });

  document.addEventListener("click", (event) => {
    // a hand on the mouse leaves the keys free: Enter after a click saves, it does not click again
    const clicked = event.target.closest("#work summary, #work button[type=button], #work .sentence");
    if (clicked && event.detail > 0) clicked.blur();
    if (event.target.closest("[data-open-keys]")) document.getElementById("keys")?.showModal();
  });
  document.addEventListener("change", (event) => {
    if (event.target.name === "keys_enabled" && work()) work().dataset.keys = event.target.checked ? "on" : "off";
    if (event.target.name === "best") offerImprovement();
  });
  document.addEventListener("toggle", (event) => event.target.id === "improve" && offerImprovement(), true);

  // the best story's own text is what an improvement begins with
  // with its blank lines: a paragraph knows where it starts, in code points
  function textOf(card) {
    let text = "";
    let end = 0;
    for (const paragraph of card.querySelectorAll(".story p")) {
      const start = Number(paragraph.dataset.start);
      text += "\n".repeat(text ? start - end : 0) + paragraph.textContent;
      end = start + [...paragraph.textContent].length;
    }
    return text;
  }
  function offerImprovement() {
    const box = document.getElementById("improved");
    const best = work()?.querySelector("input[name=best]:checked")?.closest(".card");
    if (!box?.closest("details").open || !best) return;
    const untouched = !box.value || [...work().querySelectorAll(".card")].some((card) => textOf(card) === box.value);
    if (untouched) box.value = textOf(best);
  }

  // how long the page was in view: a background tab reads nothing
  let since = Date.now();
  function countSeconds() {
    const field = work()?.querySelector("input[name=seconds]");
    const passed = (Date.now() - since) / 1000;
    since = Date.now();
    if (field && !document.hidden) field.value = (Number(field.value || 0) + passed).toFixed(1);
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? countHidden() : (since = Date.now())));
  function countHidden() {
    const field = work()?.querySelector("input[name=seconds]");
    if (field) field.value = (Number(field.value || 0) + (Date.now() - since) / 1000).toFixed(1);
    since = Date.now();
  }
  document.addEventListener("submit", countSeconds, true);
  document.addEventListener("htmx:afterSwap", (event) => event.detail.target.id === "work" && (since = Date.now()));

  // a save that failed keeps the page and says so
  const LOGGED_OUT = 401;
  const notes = ["not-saved", "logged-out"];

  function failed(event) {
    if (event.detail.requestConfig?.verb !== "post") return;
    sayFailed(event.detail.xhr?.status);
  }
  function sayFailed(status) {
    const note = document.getElementById(status === LOGGED_OUT ? "logged-out" : "not-saved");
    if (!note) return;
    note.hidden = false;
    note.scrollIntoView({ block: "center" });
  }
  document.addEventListener("htmx:sendError", failed);
  document.addEventListener("htmx:timeout", failed);
  document.addEventListener("htmx:responseError", failed);
  document.addEventListener("htmx:beforeRequest", () => {
    for (const id of notes) document.getElementById(id)?.setAttribute("hidden", "");
  });
  // logging in again, in another tab, makes a new token: the page's own is out of date then
  document.addEventListener("htmx:configRequest", (event) => {
    // over https the cookie has the longer name; one with the shorter may be left from before
    const token = (document.cookie.match(/(?:^|; )__Host-csrftoken=([^;]+)/) ?? document.cookie.match(/(?:^|; )csrftoken=([^;]+)/))?.[1];
    if (event.detail.parameters.has?.("seconds")) {
      countSeconds();
      event.detail.parameters.set("seconds", work().querySelector("input[name=seconds]").value);
    }
    if (!token) return;
    event.detail.headers["X-CSRFToken"] = token;
    event.detail.parameters.delete("csrfmiddlewaretoken");
  });
  // the next comparison is read from its top: the focus goes there, and not to the box that had it before
  const UNREAD = 400;
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id !== "work") return;
    const fresh = work();
    const shown = (element) => element?.querySelector("#judgement")?.dataset.draft;
    if (shown(fresh) !== shown(event.detail.target)) {
      fresh.dataset.fresh = "";
      setTimeout(() => fresh.removeAttribute("data-fresh"), UNREAD);
    }
    const top = work()?.querySelector("p[role=alert]:not([hidden]), .conflict, h1");
    if (!top) return;
    top.tabIndex = -1;
    top.focus({ preventScroll: true });
    top.scrollIntoView({ block: "nearest" });
  });
  // the second half of a double click falls on the next comparison, which nobody has read
  document.addEventListener(
    "click",
    (event) => {
      if (!event.target.closest("[data-fresh] #judgement button[name=verdict], [data-fresh] button[form=skip]")) return;
      event.preventDefault();
      event.stopImmediatePropagation();
    },
    true,
  );
})();
