// What the page holds: figures as JSON, and for each slice a picture and a label map that are unpacked when needed.
// A "place" counts the slices of the page from 0; page.slices[place].index is the slice's plane in the series.
// "Stored" pixels run row by row on the scan's own grid; "shown" ones as the slice is turned for viewing.

const page = JSON.parse(document.getElementById("page-data").textContent);
const [nRows, nColumns] = page.shape;
const [isTransposed, rowsFlipped, columnsFlipped] = page.turn;
const shownHeight = isTransposed ? nColumns : nRows;
const shownWidth = isTransposed ? nRows : nColumns;
const shownSpacing = isTransposed
  ? { y: page.spacing_mm[1], x: page.spacing_mm[0] }
  : { y: page.spacing_mm[0], x: page.spacing_mm[1] };
const storedOfShown = makeStoredOfShown();
const labelPlace = new Map(page.labels.map((label, place) => [label.id, place]));
const placeOfIndex = new Map(page.slices.map((slice, place) => [slice.index, place]));

const SLICES_KEPT = 40; // unpacked at a time; corrected label maps are kept all
const pictures = new Map(); // place -> grey levels, the latest last
const labelMaps = new Map(); // place -> { ids, predicted }; predicted is null until somebody corrects the slice

function makeStoredOfShown() {
  const stored = new Int32Array(shownHeight * shownWidth);
  for (let y = 0; y < shownHeight; y++) {
    for (let x = 0; x < shownWidth; x++) {
      const down = rowsFlipped ? shownHeight - 1 - y : y;
      const right = columnsFlipped ? shownWidth - 1 - x : x;
      stored[y * shownWidth + x] = isTransposed ? right * nColumns + down : down * nColumns + right;
    }
  }
  return stored;
}

// The browser may still be reading the page while the first slice is shown already.
async function pixelText(place) {
  const id = `pixels-${page.slices[place].index}`;
  if (!document.getElementById(id) && document.readyState === "loading") {
    await new Promise((done) => document.addEventListener("DOMContentLoaded", done, { once: true }));
  }
  return document.getElementById(id).textContent.split(" ");
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

async function loadPicture(place) {
  if (!pictures.has(place)) {
    const [encoded] = await pixelText(place);
    const bitmap = await createImageBitmap(new Blob([bytesOf(encoded)]), { colorSpaceConversion: "none" });
    const canvas = new OffscreenCanvas(nColumns, nRows);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    const rgba = context.getImageData(0, 0, nColumns, nRows).data;
    const levels = new Uint8Array(nRows * nColumns);
    for (let i = 0; i < levels.length; i++) levels[i] = rgba[4 * i];
    pictures.set(place, levels);
    forgetOldest(pictures, () => true);
  }
  return pictures.get(place);
}

function forgetOldest(unpacked, mayGo) {
  if (unpacked.size <= SLICES_KEPT) return;
  for (const [place, content] of unpacked) if (mayGo(place, content)) return void unpacked.delete(place);
}

async function loadLabelMap(place) {
  if (!labelMaps.has(place)) {
    const packed = bytesOf((await pixelText(place))[1]);
    const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const ids = new Uint8Array(await new Response(unpacked).arrayBuffer());
    if (!labelMaps.has(place)) labelMaps.set(place, { ids, predicted: null });
    forgetOldest(labelMaps, (kept, map) => map.predicted === null && kept !== view.place && kept !== place);
  }
  return labelMaps.get(place);
}

function isChanged(place) {
  const map = labelMaps.get(place);
  return Boolean(map?.predicted) && map.ids.some((id, i) => id !== map.predicted[i]);
}

function areaOf(place, k) {
  return page.slices[place].counts[k] * page.pixel_area_cm2;
}
