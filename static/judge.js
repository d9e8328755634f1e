// Keys for the judging page. Everything here can also be done with the mouse and without this file.
(() => {
  const TYPING = "textarea, select, input:not([type=radio])";
  const work = () => document.getElementById("work");

  function pick(name, value) {
    const radio = work()?.querySelector(`input[name="${name}"][value="${value}"]`);
    if (radio) radio.checked = true;
    return Boolean(radio);
  }

  function press(selector) {
    const button = work()?.querySelector(selector);
    button?.click();
    return Boolean(button);
  }

  function act(key) {
    if (/^[1-5]$/.test(key)) return pick("best", key);
    if (/^[a-e]$/.test(key)) return pick("worst", "abcde".indexOf(key) + 1);
    if (key === "Enter") return press('button[value="ranked"]');
    if (key === "t") return press('button[value="tie"]');
    if (key === "Backspace") return press('button[form="skip"]');
    return false;
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return;
    const button = event.target.closest("button, a, summary");
    if (event.target.closest(TYPING) || (button && event.key === "Enter")) return;
    if (act(event.key.length === 1 ? event.key.toLowerCase() : event.key)) event.preventDefault();
  });

  // a save that failed keeps the page and says so
  const LOGGED_OUT = 401;
  const notes = ["not-saved", "logged-out"];

  function failed(event) {
    if (event.detail.requestConfig?.verb !== "post") return;
    const note = document.getElementById(event.detail.xhr?.status === LOGGED_OUT ? "logged-out" : "not-saved");
    if (!note) return;
    note.hidden = false;
    note.scrollIntoView({ block: "center" });
  }
  document.addEventListener("htmx:sendError", failed);
  document.addEventListener("htmx:responseError", failed);
  document.addEventListener("htmx:beforeRequest", () => {
    for (const id of notes) document.getElementById(id)?.setAttribute("hidden", "");
  });
  // logging in again, in another tab, makes a new token: the page's own is out of date then
  document.addEventListener("htmx:configRequest", (event) => {
    const token = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1];
    if (!token) return;
    event.detail.headers["X-CSRFToken"] = token;
    event.detail.parameters.delete("csrfmiddlewaretoken");
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id === "work") document.querySelector("#work h1")?.scrollIntoView({ block: "nearest" });
  });
})();
