// The page says everything without this: it only hides claims that were not asked for.
(() => {
  const form = document.querySelector("form.filters");
  const rows = [...document.querySelectorAll("table.claims tbody tr")];
  const tables = [...document.querySelectorAll("section.ledger")];
  const boxes = [...form.querySelectorAll("input[type=checkbox]")];
  const parts = [...new Set(boxes.map((box) => box.name))];
  const count = document.querySelector("#shown");
  const text = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const show = () => {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const study = form.elements.study.value;
    const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.name + box.value));
    for (const row of rows) {
      row.hidden = !(
        (!study || row.dataset.study === study) &&
        parts.every((part) => wanted.has(part + row.dataset[part])) &&
        words.every((word) => text.get(row).includes(word))
      );
    }
    for (const table of tables) table.hidden = !table.querySelector("tbody tr:not([hidden])");
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = `${shown} of ${rows.length} claims shown.`;
  };
  // A link to a claim that is hidden shows it.
  const reach = () => {
    const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (row && row.closest("[hidden]")) {
      form.reset();
      show();
      row.scrollIntoView();
    }
  };
  form.hidden = false;
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(show));
  window.addEventListener("hashchange", reach);
  show();
  reach();
})();
