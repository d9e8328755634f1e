// The full order as a list: by dragging, by buttons, or picked up with Space and moved with the arrow keys. It fills in the
// selects, which are the answer and which stay without this file.
(() => {
  const box = () => document.querySelector("#order .ordering");
  const list = () => box()?.querySelector(".order");
  const select = (item) => document.querySelector(`#order select[name="rank_${item.dataset.position}"]`);
  const picked = (name) => document.querySelector(`#judgement input[name="${name}"]:checked`)?.value;

  function element(tag, attributes, text) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text) made.textContent = text;
    return made;
  }

  function row(position) {
    const words = box().dataset;
    const name = `${words.story} ${position}`;
    const item = element("li", { "data-position": position });
    const start = document.querySelector(`.card[data-position="${position}"] .story`)?.textContent.slice(0, 60) ?? "";
    const language = document.querySelector(`.card[data-position="${position}"] .story`)?.lang ?? "";
    item.append(
      element("button", { type: "button", class: "grip", "data-grip": "", "aria-pressed": "false", "aria-label": `${words.move}: ${name}` }, "⠿"),
      element("span", { class: "name" }, name),
      element("span", { class: "start", lang: language }, start),
    );
    const tie = element("label", { class: "check tie" });
    tie.append(element("input", { type: "checkbox", "data-tie": "", "aria-label": `${name}: ${words.tie}` }), document.createTextNode(` = ${words.tie}`));
    item.append(
      tie,
      element("button", { type: "button", "data-step": "-1", "aria-label": `${words.up}: ${name}` }, "↑"),
      element("button", { type: "button", "data-step": "1", "aria-label": `${words.down}: ${name}` }, "↓"),
    );
    return item;
  }

  // as the selects say; without them the best first and the worst last
  function build() {
    if (!list()) return;
    const selects = [...document.querySelectorAll("#order select")];
    const rank = (field) => {
      const position = field.name.slice(5);
      return Number(field.value || (picked("best") === position ? 0 : picked("worst") === position ? 9 : 5));
    };
    const rows = selects.map((field) => [rank(field), field]).sort((a, b) => a[0] - b[0]);
    list().replaceChildren(...rows.map(([, field]) => row(field.name.slice(5))));
    const given = selects.some((field) => field.value);
    rows.forEach(([value], index) => {
      const tie = list().children[index].querySelector("[data-tie]");
      tie.checked = given && index > 0 && rows[index - 1][0] === value;
    });
    box().hidden = false;
    for (const plain of document.querySelectorAll("#order .no-js")) plain.hidden = true;
    if (window.Sortable && !window.Sortable.get(list())) {
      window.Sortable.create(list(), { handle: ".grip", animation: 150, onEnd: keep });
    }
    marks();
  }

  function marks() {
    [...list().children].forEach((item, index) => {
      item.querySelector(".tie").hidden = index === 0;
      if (index === 0) item.querySelector("[data-tie]").checked = false;
      item.querySelector('[data-step="-1"]').disabled = index === 0;
      item.querySelector('[data-step="1"]').disabled = index === list().children.length - 1;
    });
    box().classList.toggle("kept", [...document.querySelectorAll("#order select")].some((field) => field.value));
  }

  // the list becomes the answer; best and worst follow it
  function keep() {
    marks();
    const ranks = [];
    [...list().children].forEach((item, index) => {
      ranks.push(item.querySelector("[data-tie]").checked ? ranks[index - 1] : index + 1);
      select(item).value = String(ranks[index]);
    });
    follow("best", ranks.filter((rank) => rank === 1).length === 1 ? list().firstElementChild : null);
    const last = ranks.at(-1);
    follow("worst", ranks.filter((rank) => rank === last).length === 1 ? list().lastElementChild : null);
    box().classList.add("kept");
    changed();
  }

  function follow(name, item) {
    for (const radio of document.querySelectorAll(`#judgement input[name="${name}"]`)) {
      radio.checked = item !== null && radio.value === item.dataset.position;
    }
  }

  function changed() {
    list().dispatchEvent(new Event("storyloop:changed", { bubbles: true }));
  }

  function move(item, step) {
    const other = step < 0 ? item.previousElementSibling : item.nextElementSibling;
    if (!other) return;
    if (step < 0) other.before(item);
    else other.after(item);
    keep();
    const place = [...list().children].indexOf(item) + 1;
    box().querySelector("[data-order-said]").textContent = `${item.querySelector(".name").textContent}: ${box().dataset.place.replace("NUMBER", place)}`;
  }

  function clear() {
    for (const field of document.querySelectorAll("#order select")) field.value = "";
    build();
    changed();
  }

  document.addEventListener("click", (event) => {
    const step = event.target.closest("[data-step]");
    if (step) {
      move(step.closest("li"), Number(step.dataset.step));
      (step.disabled ? step.closest("li").querySelector("[data-grip]") : step).focus();
    }
    if (event.target.closest("[data-order-keep]")) keep();
    if (event.target.closest("[data-order-clear]")) clear();
  });
  document.addEventListener("keydown", (event) => {
    const grip = event.target.closest?.("[data-grip]");
    if (!grip) return;
    const held = grip.getAttribute("aria-pressed") === "true";
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (event.key === " " || (held && ["Enter", "Escape"].includes(event.key))) {
      grip.setAttribute("aria-pressed", String(event.key === " " && !held));
    } else if (held && step) {
      move(grip.closest("li"), step);
      grip.focus();
    } else {
      return;
    }
    event.preventDefault();
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-tie]")) keep();
    // best or worst chosen anew: an order that was given moves with it, one that was not is laid out anew
    if (!list() || !["best", "worst"].includes(event.target.name)) return;
    if (!box().classList.contains("kept")) return build();
    if (!event.target.checked) return;
    const item = list().querySelector(`li[data-position="${event.target.value}"]`);
    item.querySelector("[data-tie]").checked = false;
    if (event.target.name === "best") list().prepend(item);
    else list().append(item);
    const second = list().children[1];
    if (event.target.name === "best" && second) second.querySelector("[data-tie]").checked = false;
    keep();
  });
  document.addEventListener("DOMContentLoaded", build);
  document.addEventListener("storyloop:filled", build);
  document.addEventListener("htmx:afterSwap", (event) => event.detail.target.id === "work" && build());
})();
