"use strict";
for (const box of document.querySelectorAll(".cases")) {
  const table = box.querySelector("table");
  const body = table.tBodies[0];
  const lines = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const text = box.querySelector("input[type=search]");
  const outcomes = [...box.querySelectorAll("input[type=checkbox]")];
  const shown = box.querySelector("output");
  const texts = new Map(lines.map((line) => [line, line.textContent.toLowerCase()]));

  const key = (line, column, numeric) => {
    const cell = line.cells[column];
    const value = cell.dataset.key ?? cell.textContent.trim();
    if (value === "" || value === "–") return null;
    return numeric ? Number(value) : value;
  };
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  const sort = (head, column) => {
    const numeric = head.classList.contains("number");
    const falling = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const sign = falling ? -1 : 1;
    const keyed = lines.map((line) => [key(line, column, numeric), line]);
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // what is not there comes last
      return sign * (numeric ? a - b : collator.compare(a, b));
    });
    body.append(...keyed.map(([, line]) => line));
  };

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head, column));
    head.append(button);
  });

  const filter = () => {
    const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const allowed = new Set(outcomes.filter((one) => one.checked).map((one) => one.value));
    let count = 0;
    for (const line of lines) {
      const fits = allowed.has(line.dataset.outcome) && wanted.every((word) => texts.get(line).includes(word));
      line.hidden = !fits;
      count += fits;
    }
    shown.textContent = `${count.toLocaleString("en")} of ${lines.length.toLocaleString("en")} shown`;
  };
  text.addEventListener("input", filter);
  for (const one of outcomes) one.addEventListener("change", filter);
  filter();
  box.querySelector(".controls").hidden = false;
}

// On paper nothing can be opened, so all is open there
const closed = () => [...document.querySelectorAll("details:not([open])")];
let opened = [];
addEventListener("beforeprint", () => {
  opened = closed();
  for (const one of opened) one.open = true;
});
addEventListener("afterprint", () => {
  for (const one of opened) one.open = false;
});
