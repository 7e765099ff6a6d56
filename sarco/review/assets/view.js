// Draws the slice: grey window, label colours, zoom.

const PRESETS = [
  { name: "soft tissue", centre: 40, width: 400 },
  { name: "muscle", centre: 60, width: 180 },
  { name: "muscle and fat", centre: -20, width: 340 },
  { name: "liver", centre: 60, width: 160 },
  { name: "bone", centre: 400, width: 1800 },
  { name: "lung", centre: -500, width: 1400 },
  { name: "everything", centre: 238, width: 2524 },
];
const view = {
  place: placeOfIndex.get(page.start), wanted: placeOfIndex.get(page.start), levels: null, map: null,
  centre: 40, width: 400, opacity: 0.4, style: "fill", labelsShown: true, hidden: new Set(),
  zoom: 1, moveX: 0, moveY: 0, pointer: null,
};
const canvas = document.getElementById("picture");
const stage = document.getElementById("stage");
const turned = new OffscreenCanvas(shownWidth, shownHeight); // one pixel a pixel of the slice
const turnedContext = turned.getContext("2d");
const turnedPixels = turnedContext.createImageData(shownWidth, shownHeight);
const colourOf = new Map(page.labels.map((label) => [label.id, label.rgb]));
const EDGES = ["left", "right", "top", "bottom"];
for (const edge of EDGES) document.getElementById(`edge-${edge}`).textContent = page.edges[edge];

function greyOfLevel() {
  const low = view.centre - view.width / 2;
  return Uint8ClampedArray.from(page.hu_of_level, (hu) => ((hu - low) / view.width) * 255);
}

function isEdgePixel(ids, y, x, id) {
  const at = (row, column) => ids[storedOfShown[row * shownWidth + column]];
  return y === 0 || x === 0 || y === shownHeight - 1 || x === shownWidth - 1
    || at(y - 1, x) !== id || at(y + 1, x) !== id || at(y, x - 1) !== id || at(y, x + 1) !== id;
}

function shareOfColour(ids, y, x, id) {
  if (!view.labelsShown || view.hidden.has(id)) return 0;
  const isEdge = view.style !== "fill" && isEdgePixel(ids, y, x, id);
  if (view.style === "fill") return view.opacity;
  if (isEdge) return view.style === "both" ? 1 : Math.min(1, 2 * view.opacity);
  return view.style === "both" ? view.opacity : 0;
}

function paintTurned() {
  const grey = greyOfLevel();
  const { data } = turnedPixels;
  const { ids } = view.map;
  let i = 0;
  for (let y = 0; y < shownHeight; y++) {
    for (let x = 0; x < shownWidth; x++, i++) {
      const stored = storedOfShown[i];
      const value = grey[view.levels[stored]];
      const colour = ids[stored] === 0 ? undefined : colourOf.get(ids[stored]);
      const share = colour ? shareOfColour(ids, y, x, ids[stored]) : 0;
      data[4 * i] = share ? value + (colour[0] - value) * share : value;
      data[4 * i + 1] = share ? value + (colour[1] - value) * share : value;
      data[4 * i + 2] = share ? value + (colour[2] - value) * share : value;
      data[4 * i + 3] = 255;
    }
  }
  turnedContext.putImageData(turnedPixels, 0, 0);
}

// Where the slice lies on the screen: offset and size of a pixel, in CSS pixels.
function layout() {
  const wide = stage.clientWidth, high = stage.clientHeight;
  const perMm = Math.min(wide / (shownWidth * shownSpacing.x), high / (shownHeight * shownSpacing.y)) * view.zoom;
  const x = perMm * shownSpacing.x, y = perMm * shownSpacing.y;
  return { x, y, left: (wide - shownWidth * x) / 2 + view.moveX, top: (high - shownHeight * y) / 2 + view.moveY };
}

function draw() {
  if (!view.map) return;
  const ratio = window.devicePixelRatio || 1;
  const place = layout();
  canvas.width = Math.round(stage.clientWidth * ratio);
  canvas.height = Math.round(stage.clientHeight * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.imageSmoothingEnabled = place.x * ratio < 3; // from there on one wants to see the pixels
  context.imageSmoothingQuality = "high";
  context.drawImage(turned, place.left, place.top, shownWidth * place.x, shownHeight * place.y);
  drawBrush(context, place);
}

function drawBrush(context, place) {
  if (!view.pointer || paint.tool === "look") return;
  const radius = (paint.size_mm / 2) * (place.x / shownSpacing.x);
  context.strokeStyle = paint.tool === "erase" ? "#fff" : `rgb(${colourOf.get(paint.label).join()})`;
  context.beginPath();
  context.arc(view.pointer.x, view.pointer.y, radius, 0, 2 * Math.PI);
  context.stroke();
}

function redraw() {
  if (!view.map) return;
  paintTurned();
  draw();
}

// Shown pixel under a place of the screen; null beside the slice.
function pixelAt(point) {
  const place = layout();
  const x = Math.floor((point.x - place.left) / place.x), y = Math.floor((point.y - place.top) / place.y);
  return x >= 0 && y >= 0 && x < shownWidth && y < shownHeight ? { x, y } : null;
}

async function showSlice(wanted) {
  const place = Math.max(0, Math.min(page.slices.length - 1, wanted));
  finishStroke();
  view.wanted = place;
  const [levels, map] = await Promise.all([loadPicture(place), loadLabelMap(place)]);
  if (place !== view.wanted) return; // another slice was asked for meanwhile
  finishStroke();
  view.place = place;
  view.levels = levels;
  view.map = map;
  redraw();
  showSliceFigures();
}

function setWindow(centre, width) {
  view.centre = Math.round(centre);
  view.width = Math.max(2, Math.round(width));
  document.getElementById("window").textContent = `W ${view.width} L ${view.centre}`;
  redraw();
}

function zoomAt(point, factor) {
  const before = layout();
  const zoom = Math.max(1, Math.min(20, view.zoom * factor));
  const grows = zoom / view.zoom;
  view.zoom = zoom;
  const centred = { x: stage.clientWidth / 2, y: stage.clientHeight / 2 };
  const middle = { x: before.left + (shownWidth * before.x) / 2, y: before.top + (shownHeight * before.y) / 2 };
  view.moveX = zoom === 1 ? 0 : point.x + (middle.x - point.x) * grows - centred.x;
  view.moveY = zoom === 1 ? 0 : point.y + (middle.y - point.y) * grows - centred.y;
  draw();
}
