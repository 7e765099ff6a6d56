// A table that can be sorted and searched. Every text goes in as text, never as HTML.

const entries = JSON.parse(document.getElementById("page-data").textContent);
const spaced = (text) => text.replaceAll("_", " ");
const COLUMNS = [
  { heading: "", show: picture },
  { heading: "result", show: link, key: (entry) => entry.name },
  { heading: "flags", show: (entry) => entry.flags.map(spaced).join(", "), key: (entry) => -entry.flags.length, className: "flags" },
  { heading: "SMI cm²/m²", show: (entry) => fixed(entry.smi, 1) || entry.smi_why_not, key: (entry) => entry.smi },
  { heading: "cut-offs", show: (entry) => entry.verdicts.join("; "), key: (entry) => entry.verdicts.join() },
  { heading: "volume ml", show: (entry) => fixed(entry.volume_ml, 1), key: (entry) => entry.volume_ml, className: "number" },
  { heading: "slices", show: (entry) => String(entry.slices), key: (entry) => entry.slices, className: "number" },
  { heading: "confidence", show: (entry) => fixed(entry.confidence, 3), key: (entry) => entry.confidence, className: "number" },
  { heading: "corrected by", show: (entry) => entry.corrected_by, key: (entry) => entry.corrected_by },
  { heading: "run", show: (entry) => entry.run, key: (entry) => entry.run },
  { heading: "sarco", show: (entry) => entry.version, key: (entry) => entry.version },
  { heading: "remark", show: (entry) => entry.fault, key: (entry) => entry.fault },
];
const FLAGS = 2;
const sorted = { column: FLAGS, direction: 1 };

function fixed(value, digits) {
  return typeof value === "number" ? value.toFixed(digits) : "";
}

function picture(entry) {
  if (!entry.thumbnail) return "";
  const image = document.createElement("img");
  image.src = `data:image/jpeg;base64,${entry.thumbnail}`;
  image.alt = "";
  return image;
}

function link(entry) {
  if (!entry.link) return entry.name;
  const anchor = document.createElement("a");
  anchor.href = entry.link;
  anchor.textContent = entry.name;
  return anchor;
}

// Empty cells stand last, whichever way one sorts.
function compare(one, two) {
  const [a, b] = [one, two].map(COLUMNS[sorted.column].key);
  const isEmpty = (value) => value === null || value === undefined || value === "";
  if (isEmpty(a) || isEmpty(b)) return isEmpty(a) - isEmpty(b);
  const order = typeof a === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  return order * sorted.direction;
}

function showRows() {
  const wanted = document.getElementById("find").value.toLowerCase();
  const shown = entries
    .filter((entry) => [entry.name, entry.run, ...entry.flags, ...entry.verdicts].join(" ").toLowerCase().includes(wanted))
    .sort(compare);
  const rows = shown.map((entry) => {
    const row = document.createElement("tr");
    for (const { show, className } of COLUMNS) {
      const cell = document.createElement("td");
      cell.append(show(entry));
      cell.className = className || "";
      row.append(cell);
    }
    return row;
  });
  document.getElementById("rows").replaceChildren(...rows);
  document.getElementById("count").textContent = `${shown.length} of ${entries.length}`;
}

function sortBy(column) {
  sorted.direction = sorted.column === column ? -sorted.direction : 1;
  sorted.column = column;
  showRows();
}

function makeHeads() {
  COLUMNS.forEach(({ heading, key }, column) => {
    const cell = document.createElement("th");
    const button = document.createElement("button");
    button.textContent = heading;
    if (key) button.addEventListener("click", () => sortBy(column));
    cell.append(button);
    document.getElementById("heads").append(cell);
  });
}

makeHeads();
document.getElementById("find").addEventListener("input", showRows);
showRows();
