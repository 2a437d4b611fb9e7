
"use strict";
(function () {
  const table = document.getElementById("table");
  if (!table || !table.tBodies.length) return;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);
  const words = new Intl.Collator("en", { numeric: true });

  // What is not known comes last in either direction; equal rows keep the order in which they came.
  function sort(column, down) {
    const numbers = heads[column].classList.contains("n");
    const keyed = rows.map(function (row, at) {
      const cell = row.cells[column];
      const text = numbers && cell.dataset.v !== undefined ? cell.dataset.v : cell.textContent;
      return { row: row, at: at, key: numbers ? parseFloat(text) : text, none: text === "" || text === "-" };
    });
    keyed.sort(function (a, b) {
      if (a.none || b.none) return a.none - b.none || a.at - b.at;
      const order = numbers ? a.key - b.key : words.compare(a.key, b.key);
      return (down ? -order : order) || a.at - b.at;
    });
    body.append.apply(body, keyed.map(function (k) { return k.row; }));
    heads.forEach(function (head, i) {
      if (i === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }

  heads.forEach(function (head, column) {
    const button = document.createElement("button");
    button.type = "button";
    button.append.apply(button, Array.from(head.childNodes));
    head.append(button);
    button.addEventListener("click", function () {
      const now = head.getAttribute("aria-sort");
      sort(column, now ? now === "ascending" : head.classList.contains("n"));
    });
  });

  const form = document.getElementById("filter");
  const find = document.getElementById("find");
  const verdict = document.getElementById("verdict");
  const shown = document.getElementById("shown");
  const texts = rows.map(function (row) { return row.textContent.toLowerCase(); });
  function filter() {
    const wanted = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let n = 0;
    rows.forEach(function (row, i) {
      const risk = row.dataset.verdict === "Short" || row.dataset.verdict === "Unset";
      const ok = (verdict.value === "" || (verdict.value === "risk" ? risk : row.dataset.verdict === verdict.value)) &&
        wanted.every(function (word) { return texts[i].includes(word); });
      row.hidden = !ok;
      if (ok) n++;
    });
    shown.textContent = n + " of " + rows.length + " rows";
  }
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  filter();
})();
