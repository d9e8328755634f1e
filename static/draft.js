// Keeps what is entered: on the server shortly after each change and on leaving, in this browser while the server cannot be reached.
(() => {
  const PAUSE = 800;
  const LONGEST_WAIT = 30000;
  const LONGEST_ANSWER = 10000;
  const form = () => document.getElementById("judgement");
  const status = () => document.getElementById("draft-status");
  const store = (element) => `storyloop-draft:${element.dataset.draft}`;
  let timer = null;
  let dirty = false;
  let busy = false;
  let wait = 2000;

  function entered(element) {
    const data = new FormData(element);
    // over https the cookie has the longer name; one with the shorter may be left from before
    const token = (document.cookie.match(/(?:^|; )__Host-csrftoken=([^;]+)/) ?? document.cookie.match(/(?:^|; )csrftoken=([^;]+)/))?.[1];
    if (token) data.set("csrfmiddlewaretoken", token);
    return data;
  }

  function say(key) {
    if (status()) status().textContent = key ? status().dataset[key] : "";
  }

  function keepHere(element) {
    const data = entered(element);
    data.delete("csrfmiddlewaretoken");
    try {
      localStorage.setItem(store(element), JSON.stringify([...data]));
    } catch {
      // private windows have no store: the page itself still holds everything
    }
  }

  function keptHere(element) {
    try {
      return JSON.parse(localStorage.getItem(store(element)));
    } catch {
      return null;
    }
  }

  function forgetHere(element) {
    try {
      localStorage.removeItem(store(element));
    } catch {
      // nothing was kept
    }
  }

  function later(pause) {
    clearTimeout(timer);
    timer = setTimeout(save, pause);
  }

  // two versions, and no choice yet: neither is written over the other, this one is kept here
  function undecided(element) {
    if (!document.querySelector(".conflict")) return false;
    keepHere(element);
    return true;
  }

  async function save() {
    const element = form();
    if (!element || !dirty || busy || undecided(element)) return;
    busy = true;
    dirty = false;
    const answer = await fetch(element.dataset.draft, {
      method: "POST",
      body: entered(element),
      headers: { "HX-Request": "true" },
      signal: AbortSignal.timeout(LONGEST_ANSWER),
    }).catch(() => null);
    busy = false;
    if (element === form()) await heard(element, answer);
    if (dirty) later(PAUSE);
  }

  async function heard(element, answer) {
    if (answer?.ok) {
      element.elements.version.value = (await answer.json()).version;
      wait = 2000;
      forgetHere(element);
      say("saved");
    } else if (answer?.status === 409) {
      keepHere(element);
      document.getElementById("conflict").innerHTML = await answer.text();
      document.getElementById("conflict").scrollIntoView({ block: "center" });
    } else if (answer?.status === 422) {
      status().textContent = (await answer.json()).error;
    } else {
      keepHere(element);
      dirty = true;
      say("failed");
      if (answer?.status === 401) document.getElementById("logged-out").hidden = false;
      later(wait);
      wait = Math.min(wait * 2, LONGEST_WAIT);
    }
  }

  function changed(event) {
    if (!event.target.closest?.("#judgement")) return;
    dirty = true;
    later(PAUSE);
  }

  // the page may go at any moment now: the beacon is sent all the same
  function leaving() {
    const element = form();
    if (!element || !dirty || undecided(element)) return;
    keepHere(element);
    dirty = !navigator.sendBeacon(element.dataset.draft, entered(element));
  }

  function restore() {
    const element = form();
    dirty = false;
    wait = 2000;
    clearTimeout(timer);
    const kept = element && keptHere(element);
    if (!kept) return;
    const values = new Map();
    for (const [name, value] of kept) values.set(name, [...(values.get(name) ?? []), value]);
    if (values.get("version")?.[0] !== element.elements.version.value) {
      forgetHere(element); // the server has something newer
      return;
    }
    fill(element, values);
    say("restored");
    dirty = true;
    later(PAUSE);
  }

  function fill(element, values) {
    for (const field of element.elements) {
      if (!field.name || ["page", "version", "csrfmiddlewaretoken", "verdict"].includes(field.name)) continue;
      const given = values.get(field.name) ?? [];
      if (field.type === "radio" || field.type === "checkbox") field.checked = given.includes(field.value);
      else field.value = given[0] ?? "";
    }
    element.dispatchEvent(new Event("storyloop:filled", { bubbles: true }));
  }

  document.addEventListener("input", changed);
  document.addEventListener("change", changed);
  document.addEventListener("storyloop:changed", changed);
  window.addEventListener("pagehide", leaving);
  window.addEventListener("online", save);
  // what was sent in leaving is believed only when the server has said so
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return leaving();
    if (!form() || !keptHere(form())) return;
    dirty = true;
    later(0);
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-keep-mine]");
    if (!button) return;
    form().elements.version.value = button.closest(".conflict").dataset.version;
    document.getElementById("conflict").replaceChildren();
    dirty = true;
    save();
  });
  // an answer that is on its way needs no draft; one that failed does
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.elt === form()) clearTimeout(timer);
    else if (event.detail.target?.id === "work") leaving(); // undo and skip lead elsewhere too
  });
  for (const name of ["htmx:sendError", "htmx:timeout", "htmx:responseError"]) {
    document.addEventListener(name, (event) => {
      if (event.detail.elt !== form()) return;
      keepHere(form());
      dirty = true;
      later(wait);
    });
  }
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.requestConfig?.elt === form() && event.detail.xhr.status === 200) forgetHere(form());
  });
  document.addEventListener("DOMContentLoaded", restore);
  document.addEventListener("htmx:afterSwap", (event) => event.detail.target.id === "work" && restore());
})();
