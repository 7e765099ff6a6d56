// The tables beside the picture. Every text goes in as text, never as HTML.

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function row(cells, tag = "td") {
  const made = element("tr");
  for (const cell of cells) made.append(cell instanceof Node ? cell : element(tag, cell));
  return made;
}

function number(value, digits) {
  return typeof value === "number" ? value.toFixed(digits) : "–";
}

function plainText(value) {
  if (Array.isArray(value)) return value.map(plainText).join(", ");
  if (value !== null && typeof value === "object") {
    return Object.entries(value).map(([key, inner]) => `${key.replaceAll("_", " ")} ${plainText(inner)}`).join("; ");
  }
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "number" ? String(Math.round(value * 1000) / 1000) : String(value ?? "–");
}

function pairTable(entries) {
  const table = element("table", "", "pairs");
  for (const [key, value] of entries) table.append(row([key.replaceAll("_", " "), plainText(value)]));
  return table;
}

function swatchCell(label) {
  const cell = element("td");
  const swatch = element("span", "", "swatch");
  swatch.style.background = `rgb(${label.rgb.join()})`;
  const box = element("input");
  box.type = "checkbox";
  box.checked = !view.hidden.has(label.id);
  box.title = "shown";
  box.addEventListener("change", () => {
    if (box.checked) view.hidden.delete(label.id);
    else view.hidden.add(label.id);
    redraw();
  });
  cell.title = label.name;
  cell.append(box, swatch, label.name);
  return cell;
}

const measuredOf = new Map(page.measured.map(([index, id, ...values]) => [`${index} ${id}`, values]));
const SHOWN_MEASURES = [["mean_hu", "HU", 1], ["lama_cm2", "LAMA", 2], ["nama_cm2", "NAMA", 2], ["fat_cm2", "fat", 2]]
  .filter(([name]) => page.measured.some((values) => values[2 + page.measures.indexOf(name)] !== null));

function makeSliceTable() {
  const table = document.getElementById("slice-table");
  table.append(row(["label", "cm²", ...SHOWN_MEASURES.map(([, heading]) => heading)], "th"));
  for (const label of page.labels) {
    const made = row([swatchCell(label), "", ...SHOWN_MEASURES.map(() => "")]);
    made.id = `slice-row-${label.id}`;
    table.append(made);
  }
}

function makeTotalTable() {
  const table = document.getElementById("total-table");
  const known = new Map((page.summary.labels || []).map((entry) => [entry.id, entry]));
  table.append(row(["label", "ml", "mean HU"], "th"));
  for (const label of page.labels) {
    const made = row([label.name, "", number(known.get(label.id)?.mean_hu, 1)]);
    made.id = `total-row-${label.id}`;
    table.append(made);
  }
}

function showSliceFigures() {
  const slice = page.slices[view.place];
  const changed = isChanged(view.place);
  page.labels.forEach((label, k) => {
    const made = document.getElementById(`slice-row-${label.id}`);
    made.classList.toggle("active", paint.tool !== "look" && label.id === paint.label);
    made.children[1].textContent = areaOf(view.place, k).toFixed(2);
    const values = measuredOf.get(`${slice.index} ${label.id}`);
    SHOWN_MEASURES.forEach(([name, , digits], column) => {
      const value = changed ? undefined : values?.[page.measures.indexOf(name)];
      made.children[2 + column].textContent = number(value, digits);
    });
    const total = page.slices.reduce((sum, one) => sum + one.counts[k], 0);
    document.getElementById(`total-row-${label.id}`).children[1].textContent =
      (total * page.pixel_volume_ml).toFixed(1);
  });
  document.getElementById("slice-note").textContent = changed && SHOWN_MEASURES.length
    ? "This slice was corrected: areas follow, densities are measured when the corrections are applied." : "";
  document.getElementById("smi-note").textContent =
    done.length ? "As before the corrections: index and cut-offs are computed anew when they are applied." : "";
  const place = `slice ${slice.index}   z ${slice.z_mm.toFixed(1)} mm   ${view.place + 1} of ${page.slices.length}`;
  document.getElementById("caption").textContent = place + (changed ? "   corrected" : "");
  document.getElementById("slider").value = view.place;
  document.getElementById("checked").classList.toggle("on", checkedPlaces.has(view.place));
  showProfile();
}

function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function showProfile() {
  const chart = document.getElementById("profile");
  const last = Math.max(page.slices.length - 1, 1);
  const largest = Math.max(...page.slices.flatMap((slice) => slice.counts), 1);
  chart.setAttribute("viewBox", `-0.5 0 ${last + 1} 100`);
  chart.replaceChildren();
  const mark = (place, colour) => chart.append(svg("line", { x1: place, x2: place, y1: 0, y2: 100, stroke: colour }));
  const levelPlace = placeOfIndex.get(page.summary.level?.slice_index);
  if (levelPlace !== undefined) mark(levelPlace, "#3fb950");
  mark(view.place, "#e8eaed");
  page.labels.forEach((label, k) => {
    const points = page.slices.map((slice, place) => `${place},${98 - (95 * slice.counts[k]) / largest}`).join(" ");
    chart.append(svg("polyline", { points, stroke: `rgb(${label.rgb.join()})` }));
  });
  const ends = [page.slices[0], page.slices[page.slices.length - 1]].map((slice) => slice.z_mm.toFixed(0));
  document.getElementById("profile-note").textContent =
    `z ${ends[0]} to ${ends[1]} mm; top ${(largest * page.pixel_area_cm2).toFixed(1)} cm². `
    + (levelPlace === undefined ? "Click goes there." : `Green: ${page.summary.level.name}. Click goes there.`);
}

function makeFlags() {
  const panel = document.getElementById("flags");
  const flags = page.summary.flags;
  if (!flags) panel.append(element("p", "Not looked for.", "note"));
  else if (!flags.length) panel.append(element("p", "None.", "note"));
  for (const flag of flags || []) {
    const box = element("div", "", "flag");
    box.append(element("b", String(flag.name).replaceAll("_", " ")), ` ${flag.reason}`);
    if (flag.numbers && Object.keys(flag.numbers).length) box.append(element("div", plainText(flag.numbers), "note"));
    for (const index of (flag.slices || []).slice(0, 30)) {
      if (!placeOfIndex.has(index)) continue;
      const button = element("button", String(index));
      button.addEventListener("click", () => showSlice(placeOfIndex.get(index)));
      box.append(button);
    }
    panel.append(box);
  }
  for (const line of page.summary.not_checked || []) panel.append(element("p", `Not checked: ${line}`, "note"));
}

function cutoffBox(one) {
  const box = element("div", String(one.text || one.verdict || one.set), "verdict");
  box.append(element("div", [one.text ? one.population : one.why, one.doi].filter(Boolean).join("; "), "note"));
  return box;
}

function intervalText(interval) {
  const what = `${interval.what} ${number(interval.value, 1)}`;
  if (typeof interval.low !== "number") return `${what}: no interval, because ${interval.why_not}`;
  return `${what}: ${Math.round(interval.coverage * 100)} % interval ${number(interval.low, 1)} to ${number(interval.high, 1)}, `
    + `from ${interval.n_patients} validation patients`;
}

function makeSmi() {
  const panel = document.getElementById("smi");
  const { smi, cutoffs = [], intervals, level, at_level: muscle } = page.summary;
  const index = typeof smi?.value === "number" ? `SMI ${smi.value.toFixed(1)} ${String(smi.unit).replaceAll("m2", "m²")}` : `SMI: ${smi?.why_not || "not computed"}`;
  panel.append(element("p", index, "verdict"));
  if (muscle) {
    panel.append(element("p", `${level?.name ?? "level"}, slice ${level?.slice_index ?? "–"}: muscle ${number(muscle.area_in_range_cm2, 1)} cm² `
      + `in range, ${number(muscle.mean_hu_in_range, 1)} HU`, "verdict"));
  }
  if (level?.note) panel.append(element("p", level.note, "note"));
  for (const interval of intervals || []) panel.append(element("p", intervalText(interval), "note"));
  const applies = (one) => one.verdict !== "not applicable";
  cutoffs.filter(applies).forEach((one) => panel.append(cutoffBox(one)));
  const others = cutoffs.filter((one) => !applies(one));
  if (!others.length) return;
  const folded = element("details");
  folded.append(element("summary", `${others.length} cut-offs do not apply`), ...others.map(cutoffBox));
  panel.append(folded);
}

function makeOrigin() {
  const { acquisition, patient, hu_ranges: ranges } = page.summary;
  const panel = document.getElementById("acquisition");
  const entries = { ...page.identity, series: page.description, ...acquisition, ...patient };
  panel.append(pairTable(Object.entries(entries)));
  if (ranges) panel.append(element("p", `HU ranges: ${plainText(ranges)}`, "note"));
  const origin = document.getElementById("provenance");
  origin.append(pairTable([...Object.entries(page.provenance), ["Series UID", page.series_uid]]));
  origin.append(element("p", page.pictures, "note"));
}

function showMessage(text) {
  document.getElementById("message").textContent = text;
}

function showEditState() {
  showMessage("");
  document.getElementById("undo").disabled = done.length === 0;
  document.getElementById("redo").disabled = undone.length === 0;
  document.getElementById("save").classList.toggle("unsaved", !isSaved);
  for (const tool of ["look", "brush", "erase"]) {
    document.getElementById(`tool-${tool}`).classList.toggle("on", paint.tool === tool);
  }
  document.getElementById("label").value = paint.label;
  document.getElementById("size").value = paint.size_mm;
  document.getElementById("size-mm").textContent = `${paint.size_mm} mm`;
  canvas.style.cursor = paint.tool === "look" ? "default" : "crosshair";
}
