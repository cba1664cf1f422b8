// Tables of the class "sortable": a click on a column's head sorts its rows, the third click gives
// back their own order. What is no number stands last; a cell counts by its first text.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const text = (row) => (row.cells[column].firstChild?.textContent ?? "").trim();
    const isNumber = rows.some((row) => !Number.isNaN(parseFloat(text(row))) && column > 0);
    const cycle = isNumber ? ["descending", "ascending", ""] : ["ascending", "descending", ""];
    const order = (a, b) => {
      if (!isNumber) return text(a).localeCompare(text(b));
      const [x, y] = [parseFloat(text(a)), parseFloat(text(b))];
      return Number.isNaN(x) || Number.isNaN(y) ? NaN : x - y;
    };
    const sorted = (sign) => [...rows].sort((a, b) => {
      const difference = order(a, b);
      if (!Number.isNaN(difference)) return sign * difference;
      return Number.isNaN(parseFloat(text(a))) - Number.isNaN(parseFloat(text(b)));
    });
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = cycle[(cycle.indexOf(head.ariaSort ?? "") + 1) % cycle.length];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next) head.ariaSort = next;
      body.append(...(next ? sorted(next === "ascending" ? 1 : -1) : rows));
    });
  });
}
