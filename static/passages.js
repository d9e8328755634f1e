// Marks passages, a sentence at a time: by click, by touch, by keyboard. Once is liked, twice disliked, three times nothing.
// Offsets count code points, as the server does.
(() => {
  const SENTENCE = /[^.!?。！？…]+[.!?。！？…]*["'”’」』）)]*\s*/gu;
  const NEXT = { "": "good", good: "bad", bad: "" };
  const field = () => document.querySelector("#judgement input[name=passages]");
  const length = (text) => [...text].length;

  function split(story) {
    for (const paragraph of story.querySelectorAll("p")) {
      const text = paragraph.textContent;
      let offset = Number(paragraph.dataset.start);
      const pieces = text.match(SENTENCE) ?? [text];
      const parts = pieces.join("") === text ? pieces : [text];
      paragraph.replaceChildren(
        ...parts.map((part) => {
          const span = document.createElement("span");
          span.className = "sentence";
          span.textContent = part;
          span.dataset.start = String(offset);
          offset += length(part);
          span.dataset.end = String(offset - (length(part) - length(part.trimEnd())));
          return span;
        }),
      );
    }
  }

  function set(span, mark) {
    span.dataset.mark = mark;
    const words = document.getElementById("judgement").dataset;
    const said = { good: words.liked, bad: words.disliked }[mark];
    if (span.getAttribute("role")) span.setAttribute("aria-label", (said ? `${said}: ` : "") + span.textContent.trim());
  }

  function marking(on) {
    document.getElementById("work").classList.toggle("marking", on);
    for (const span of document.querySelectorAll(".sentence")) {
      for (const [name, value] of [["role", "button"], ["tabindex", "0"]]) {
        if (on) span.setAttribute(name, value);
        else span.removeAttribute(name);
      }
      if (!on) span.removeAttribute("aria-label");
      else set(span, span.dataset.mark ?? "");
    }
    document.querySelector("[data-mark]").setAttribute("aria-pressed", String(on));
  }

  // neighbours with the same mark are one passage
  function collect() {
    const found = [];
    for (const card of document.querySelectorAll(".card")) {
      let open = null;
      for (const span of card.querySelectorAll(".sentence")) {
        const mark = span.dataset.mark;
        if (open && mark === open.mark) open.end = Number(span.dataset.end);
        else if (mark) {
          open = { mark, start: Number(span.dataset.start), end: Number(span.dataset.end), position: Number(card.dataset.position) };
          found.push(open);
        } else open = null;
      }
    }
    field().value = found.length ? JSON.stringify(found.map((p) => [p.position, p.start, p.end, p.mark === "good"])) : "";
    field().dispatchEvent(new Event("storyloop:changed", { bubbles: true }));
  }

  function show() {
    if (!field()) return;
    for (const story of document.querySelectorAll("#judgement .story")) split(story);
    let marks = [];
    try {
      marks = JSON.parse(field().value || "[]");
    } catch {
      field().value = "";
    }
    for (const [position, start, end, good] of marks) {
      for (const span of document.querySelectorAll(`.card[data-position="${position}"] .sentence`)) {
        if (Number(span.dataset.start) >= start && Number(span.dataset.end) <= end) set(span, good ? "good" : "bad");
      }
    }
  }

  function toggle(span) {
    set(span, NEXT[span.dataset.mark ?? ""]);
    collect();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-mark]:not(.sentence)");
    if (button) return marking(button.getAttribute("aria-pressed") !== "true");
    const span = event.target.closest(".marking .sentence");
    if (span) toggle(span);
  });
  document.addEventListener("keydown", (event) => {
    const span = event.target.closest?.(".marking .sentence");
    if (!span || ![" ", "Enter"].includes(event.key)) return;
    event.preventDefault();
    toggle(span);
  });
  document.addEventListener("DOMContentLoaded", show);
  document.addEventListener("storyloop:filled", show);
  document.addEventListener("htmx:afterSwap", (event) => event.detail.target.id === "work" && show());
})();
