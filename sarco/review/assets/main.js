// Connects mouse, keys and controls with what they do, then shows the first slice.

const control = (id) => document.getElementById(id);
let drag = null; // { kind: "window" | "move", x, y }

function screenPoint(event) {
  const box = stage.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}

function onPointerDown(event) {
  canvas.focus();
  canvas.setPointerCapture(event.pointerId);
  if (event.button === 2) drag = { kind: "window", x: event.clientX, y: event.clientY };
  else if (event.button === 1 || event.shiftKey) drag = { kind: "move", x: event.clientX, y: event.clientY };
  else if (event.button === 0 && paint.tool !== "look" && view.map) beginStroke(pixelAt(screenPoint(event)));
  if (event.button !== 0) event.preventDefault();
}

function onPointerMove(event) {
  view.pointer = screenPoint(event);
  const pixel = pixelAt(view.pointer);
  showReadout(pixel);
  if (!drag && paint.stroke) return strokeTo(pixel);
  if (!drag) return draw();
  const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
  drag = { kind: drag.kind, x: event.clientX, y: event.clientY };
  if (drag.kind === "window") {
    control("preset").value = "";
    return setWindow(view.centre + dy * 2, view.width + dx * 4);
  }
  view.moveX += dx;
  view.moveY += dy;
  draw();
}

function onPointerUp() {
  drag = null;
  finishStroke();
}

function showReadout(pixel) {
  if (!pixel || !view.levels) return void (control("readout").textContent = "");
  const stored = storedOfShown[pixel.y * shownWidth + pixel.x];
  const name = page.labels[labelPlace.get(view.map.ids[stored])]?.name || "background";
  const hu = Math.round(page.hu_of_level[view.levels[stored]]);
  const where = `row ${Math.floor(stored / nColumns)}, column ${stored % nColumns}`;
  control("readout").textContent = `${where}: about ${hu} HU, ${name}`;
}

let wheelLeft = 0;
function onWheel(event) {
  event.preventDefault();
  if (event.ctrlKey) return zoomAt(screenPoint(event), event.deltaY < 0 ? 1.2 : 1 / 1.2);
  // Mice report about 100 a notch, touch pads many small steps.
  wheelLeft += event.deltaMode === 0 ? event.deltaY / 60 : event.deltaY;
  const steps = Math.trunc(wheelLeft);
  wheelLeft -= steps;
  if (steps) showSlice(view.wanted + Math.sign(steps));
}

function setTool(tool) {
  finishStroke();
  paint.tool = tool;
  showEditState();
  if (view.map) showSliceFigures();
  draw();
}

function setLabel(id) {
  finishStroke();
  paint.label = id;
  showEditState();
  if (view.map) showSliceFigures();
}

function setSize(size) {
  paint.size_mm = Math.max(1, Math.min(80, size));
  showEditState();
  draw();
}

function toggleChecked() {
  if (!checkedPlaces.delete(view.place)) checkedPlaces.add(view.place);
  noteChange();
  showSliceFigures();
}

function setStyle(style) {
  view.style = style;
  control("style").value = style;
  redraw();
}

function toggleLabels() {
  view.labelsShown = !view.labelsShown;
  redraw();
}

const middle = () => ({ x: stage.clientWidth / 2, y: stage.clientHeight / 2 });
const KEYS = {
  ArrowUp: () => showSlice(view.wanted + 1), ArrowRight: () => showSlice(view.wanted + 1),
  ArrowDown: () => showSlice(view.wanted - 1), ArrowLeft: () => showSlice(view.wanted - 1),
  PageUp: () => showSlice(view.wanted + 10), PageDown: () => showSlice(view.wanted - 10),
  Home: () => showSlice(0), End: () => showSlice(page.slices.length - 1),
  "+": () => zoomAt(middle(), 1.25), "-": () => zoomAt(middle(), 0.8), 0: () => zoomAt(middle(), 0),
  b: () => setTool("brush"), e: () => setTool("erase"), Escape: () => setTool("look"),
  "[": () => setSize(paint.size_mm - 2), "]": () => setSize(paint.size_mm + 2),
  o: () => setStyle({ fill: "outline", outline: "both", both: "fill" }[view.style]),
  c: toggleChecked, " ": toggleLabels,
};
const CONTROL_KEYS = { z: undo, y: redo, Z: redo, s: save };

function onKey(event) {
  if (event.target.matches("input[type=text], select")) return;
  const keys = event.ctrlKey || event.metaKey ? CONTROL_KEYS : KEYS;
  const label = !event.ctrlKey && /^[1-9]$/.test(event.key) ? page.labels[event.key - 1] : undefined;
  const action = label ? () => setLabel(label.id) : keys[event.key];
  if (!action || (event.key === " " && event.target.matches("button, summary, input[type=checkbox]"))) return;
  event.preventDefault();
  action();
}

function onProfileClick(event) {
  const box = control("profile").getBoundingClientRect();
  showSlice(Math.floor(((event.clientX - box.left) / box.width) * Math.max(page.slices.length, 2)));
}

function connectControls() {
  control("preset").append(new Option("", ""), ...PRESETS.map(({ name }) => new Option(name, name)));
  control("preset").value = PRESETS[0].name;
  control("preset").addEventListener("change", () => {
    const preset = PRESETS.find(({ name }) => name === control("preset").value);
    if (preset) setWindow(preset.centre, preset.width);
  });
  control("label").append(...page.labels.map(({ id, name }) => new Option(name, id)));
  control("label").addEventListener("change", () => setLabel(Number(control("label").value)));
  control("style").addEventListener("change", () => setStyle(control("style").value));
  control("over").addEventListener("change", () => { paint.over = control("over").value; });
  control("opacity").addEventListener("input", () => { view.opacity = control("opacity").value / 100; redraw(); });
  control("size").addEventListener("input", () => setSize(Number(control("size").value)));
  control("slider").max = page.slices.length - 1;
  control("slider").addEventListener("input", () => showSlice(Number(control("slider").value)));
  for (const tool of ["look", "brush", "erase"]) control(`tool-${tool}`).addEventListener("click", () => setTool(tool));
  control("open").addEventListener("change", () => {
    const [file] = control("open").files;
    if (file) takeUp(file);
    control("open").value = ""; // so that the same file can be chosen again
  });
  const clicks = { undo, redo, save, checked: toggleChecked };
  for (const [id, action] of Object.entries(clicks)) control(id).addEventListener("click", action);
}

function connectMouse() {
  canvas.addEventListener("pointerdown", onPointerDown);
  canvas.addEventListener("pointermove", onPointerMove);
  canvas.addEventListener("pointerup", onPointerUp);
  canvas.addEventListener("pointercancel", onPointerUp);
  canvas.addEventListener("pointerleave", () => { view.pointer = null; draw(); });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  stage.addEventListener("wheel", onWheel, { passive: false });
  control("profile").addEventListener("click", onProfileClick);
  document.addEventListener("keydown", onKey);
  new ResizeObserver(draw).observe(stage);
  window.addEventListener("beforeunload", (event) => { if (!isSaved) event.preventDefault(); });
}

async function start() {
  connectControls();
  connectMouse();
  makeFlags();
  makeSliceTable();
  makeTotalTable();
  makeSmi();
  makeOrigin();
  showEditState();
  setWindow(view.centre, view.width);
  await showSlice(view.place);
  document.body.dataset.firstPictureMs = Math.round(performance.now());
}

start();
