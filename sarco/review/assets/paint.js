// Brush and eraser on the scan's own grid, undo and redo, and the file of corrections.

const paint = { tool: "look", label: page.labels[0].id, size_mm: 12, over: "all", stroke: null, last: null };
const undone = [];
const done = [];
const checkedPlaces = new Set(); // looked at and found right
let isSaved = true;

function setPixel(stored) {
  const { ids } = view.map;
  const before = ids[stored];
  const after = paint.tool === "erase" ? 0 : paint.label;
  if (before === after) return;
  if (paint.tool === "erase" && before !== paint.label) return; // takes away the chosen label only
  if (paint.tool === "brush" && paint.over === "background" && before !== 0) return;
  paint.stroke.pixels.push(stored);
  paint.stroke.before.push(before);
  paint.stroke.after.push(after);
  writePixel(view.map, view.place, stored, after);
}

function writePixel(map, place, stored, id) {
  const { counts } = page.slices[place];
  map.predicted ??= map.ids.slice();
  const before = labelPlace.get(map.ids[stored]), after = labelPlace.get(id);
  if (before !== undefined) counts[before]--;
  if (after !== undefined) counts[after]++;
  map.ids[stored] = id;
}

// Every pixel whose centre lies within the brush, and always the one under the pointer.
function stamp(centre) {
  const radius = paint.size_mm / 2;
  const reachY = Math.floor(radius / shownSpacing.y), reachX = Math.floor(radius / shownSpacing.x);
  for (let dy = -reachY; dy <= reachY; dy++) {
    for (let dx = -reachX; dx <= reachX; dx++) {
      const y = centre.y + dy, x = centre.x + dx;
      const isInside = y >= 0 && x >= 0 && y < shownHeight && x < shownWidth;
      const isNear = Math.hypot(dy * shownSpacing.y, dx * shownSpacing.x) <= radius;
      if (isInside && isNear) setPixel(storedOfShown[y * shownWidth + x]);
    }
  }
}

function strokeTo(pixel) {
  if (!paint.stroke || !pixel) return;
  const from = paint.last || pixel;
  const steps = Math.max(Math.abs(pixel.x - from.x), Math.abs(pixel.y - from.y), 1);
  for (let step = paint.last ? 1 : 0; step <= steps; step++) {
    const share = step / steps;
    stamp({ x: Math.round(from.x + (pixel.x - from.x) * share), y: Math.round(from.y + (pixel.y - from.y) * share) });
  }
  paint.last = pixel;
  redraw();
  showSliceFigures();
}

function beginStroke(pixel) {
  finishStroke();
  paint.stroke = { place: view.place, pixels: [], before: [], after: [] };
  paint.last = null;
  strokeTo(pixel);
}

function finishStroke() {
  const { stroke } = paint;
  paint.stroke = paint.last = null;
  if (!stroke || stroke.pixels.length === 0) return;
  done.push(stroke);
  undone.length = 0;
  noteChange();
}

function noteChange() {
  isSaved = false;
  showEditState();
}

async function replay(from, to, which) {
  finishStroke();
  const stroke = from.pop();
  if (!stroke) return;
  to.push(stroke);
  const map = await loadLabelMap(stroke.place);
  stroke.pixels.forEach((stored, i) => writePixel(map, stroke.place, stored, stroke[which][i]));
  noteChange();
  await showSlice(stroke.place);
}

function undo() {
  return replay(done, undone, "before");
}

function redo() {
  return replay(undone, done, "after");
}

// Changed pixels of a slice as [first stored pixel, how many, id].
function changedRuns({ ids, predicted }) {
  const runs = [];
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] === predicted[i]) continue;
    const last = runs[runs.length - 1];
    if (last && last[0] + last[1] === i && last[2] === ids[i]) last[1]++;
    else runs.push([i, 1, ids[i]]);
  }
  return runs;
}

function corrections() {
  const places = [...labelMaps.keys()].sort((a, b) => a - b);
  const slices = places
    .filter((place) => labelMaps.get(place).predicted)
    .map((place) => ({ place, runs: changedRuns(labelMaps.get(place)) }))
    .filter(({ runs }) => runs.length > 0)
    .map(({ place, runs }) => ({
      slice_index: page.slices[place].index,
      runs,
      n_pixels: Object.fromEntries(page.labels.map((label, k) => [label.id, page.slices[place].counts[k]])),
    }));
  return {
    format: "sarco corrections", version: 1, sarco_version: page.sarco_version,
    series_uid: page.series_uid, label_map_sha256: page.label_map_sha256, shape: page.shape,
    corrected_by: document.getElementById("who").value.trim(), corrected_at: new Date().toISOString(),
    checked_slices: [...checkedPlaces].map((place) => page.slices[place].index).sort((a, b) => a - b),
    slices,
  };
}

// Takes saved corrections up again, one stroke a slice, so that they can be undone.
async function takeUp(file) {
  let saved = null;
  try {
    saved = JSON.parse(await file.text());
  } catch {
    return showMessage("This file holds no corrections.");
  }
  if (saved?.label_map_sha256 !== page.label_map_sha256 || !Array.isArray(saved.slices)) {
    return showMessage("These corrections were drawn on another label map.");
  }
  for (const { slice_index: index, runs } of saved.slices) {
    const place = placeOfIndex.get(index);
    const stroke = { place, pixels: [], before: [], after: [] };
    const map = await loadLabelMap(place);
    for (const [first, count, id] of runs) {
      for (let stored = first; stored < first + count; stored++) {
        stroke.pixels.push(stored);
        stroke.before.push(map.ids[stored]);
        stroke.after.push(id);
        writePixel(map, place, stored, id);
      }
    }
    done.push(stroke);
  }
  for (const index of saved.checked_slices) checkedPlaces.add(placeOfIndex.get(index));
  document.getElementById("who").value ||= saved.corrected_by;
  undone.length = 0;
  noteChange();
  showMessage(`Corrections of ${saved.slices.length} slices taken up.`);
  await showSlice(saved.slices.length ? placeOfIndex.get(saved.slices[0].slice_index) : view.place);
}

function save() {
  finishStroke();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(corrections())], { type: "application/json" }));
  link.download = "corrections.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  isSaved = true;
  showEditState();
}
