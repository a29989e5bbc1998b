"use strict";
(() => {
  const cards = [...document.querySelectorAll("article")];
  const memory = "stars-guard labels " + document.body.dataset.name;
  const labels = recalled();
  let current = 0;

  function recalled() {
    // Some browsers keep nothing for pages that were opened from a file.
    try { return JSON.parse(localStorage.getItem(memory)) || {}; } catch { return {}; }
  }

  function keep() {
    try { localStorage.setItem(memory, JSON.stringify(labels)); } catch { /* the download is what counts */ }
  }

  const entry = (card) => (labels[card.dataset.code] ??= { harmful: "", note: "" });

  function show() {
    for (const card of cards) {
      const { harmful } = entry(card);
      card.classList.toggle("done", harmful !== "");
      for (const button of card.querySelectorAll("button")) {
        button.setAttribute("aria-pressed", String(button.value === harmful));
      }
    }
    cards.forEach((card, number) => card.classList.toggle("current", number === current));
    const done = cards.filter((card) => entry(card).harmful !== "").length;
    document.getElementById("count").textContent = `${done} of ${cards.length} labelled`;
    document.getElementById("progress").value = done;
  }

  function go(number) {
    current = Math.max(0, Math.min(cards.length - 1, number));
    show();
    cards[current].scrollIntoView({ block: "start" });
    cards[current].focus({ preventScroll: true });
  }

  function label(number, harmful) {
    const given = entry(cards[number]);
    given.harmful = given.harmful === harmful ? "" : harmful;
    keep();
    if (given.harmful && number < cards.length - 1) go(number + 1);
    else { current = number; show(); }
  }

  const quoted = (text) => {
    const mere = /^[=+\-@\t\r]/.test(text) ? "'" + text : text;
    return '"' + mere.replaceAll('"', '""') + '"';
  };

  function download() {
    const lines = cards.map((card) => {
      const { harmful, note } = entry(card);
      return [card.dataset.code, harmful, quoted(note)].join(",");
    });
    const table = ["code,harmful,note", ...lines].join("\r\n") + "\r\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([table], { type: "text/csv" }));
    link.download = "labels.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  cards.forEach((card, number) => {
    card.addEventListener("click", () => { if (current !== number) { current = number; show(); } });
    for (const button of card.querySelectorAll("button")) {
      button.addEventListener("click", (event) => { event.stopPropagation(); label(number, button.value); });
    }
    const note = card.querySelector("input");
    note.value = entry(card).note;
    note.addEventListener("focus", () => { if (current !== number) { current = number; show(); } });
    note.addEventListener("input", () => { entry(card).note = note.value; keep(); });
  });
  document.getElementById("download").addEventListener("click", download);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input")) {
      if (event.key === "Enter" || event.key === "Escape") event.target.blur();
      return;
    }
    const harmful = { y: "yes", n: "no", u: "unsure" }[event.key.toLowerCase()];
    if (harmful) label(current, harmful);
    else if (event.key === "j" || event.key === "ArrowDown") go(current + 1);
    else if (event.key === "k" || event.key === "ArrowUp") go(current - 1);
    else if (event.key === "o") cards[current].querySelector("input").focus();
    else return;
    event.preventDefault();
  });
  show();
})();
