"use strict";
// Tables sort by a click, or Enter or the space bar, on a heading; rows without a value come last.
for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  headers.forEach((header, column) => {
    header.querySelector("button")?.addEventListener("click", () => {
      const numeric = header.dataset.kind === "number";
      const first = header.dataset.first ?? "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const direction = header.getAttribute("aria-sort") === first ? other : first;
      headers.forEach((each) => each.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", direction);
      const sign = direction === "ascending" ? 1 : -1;
      const rows = [...body.rows];
      rows.sort((a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        if (x === "" || y === "") return (x === "") - (y === "");
        return sign * (numeric ? Number(x) - Number(y) : x.localeCompare(y));
      });
      body.append(...rows);
    });
  });
}
// Guesses in example episodes are those of the head that is chosen.
for (const choice of document.querySelectorAll("[data-choice]")) {
  const show = (chosen) => {
    for (const each of document.querySelectorAll("[data-head]")) each.hidden = each.dataset.head !== chosen;
  };
  choice.addEventListener("change", (event) => show(event.target.value));
  const chosen = choice.querySelector("input:checked"); // a browser keeps a choice when it reloads
  if (chosen) show(chosen.value);
}
