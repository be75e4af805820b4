"use strict";
// The page of `vps-ros label review`. All labels are on the server; an edit is sent there, and its answer is the new state.

const ROW = 16, NAMES = 170, VOID = 255;
const at = (id) => document.getElementById(id);
// `region` is the pixel x, y, at which a region of stuff of the current frame is selected, instead of a track.
const page = {
  about: null, state: null, selected: 0, marked: 0, region: null, frame: 0, image: null, map: null, shown: 0,
};

async function ask(path, body) {
  const options = body === undefined ? {} :
    { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const content = await answer.json();
  if (!answer.ok) { const error = new Error(content.error); error.status = answer.status; throw error; }
  return content;
}

function track(id) { return page.state.tracks.find((one) => one.id === id); }
function className(id) { const one = page.about.classes.find((c) => c.id === id); return one ? one.name : "void"; }
function frames() { return page.state.frames.map((one) => one.frame); }
function say(text) { at("message").textContent = text; }

let queue = Promise.resolve();
// One edit after the other: each is made with the state that the one before has left.
function edit(make) {
  queue = queue.then(async () => {
    const change = make();
    if (!change) return;
    try {
      page.state = await ask("api/edit", { version: page.state.version, edit: change });
      say("");
    } catch (error) {
      if (error.status === 409) page.state = await ask("api/state");
      say(error.message);
    }
    await update();
  });
  return queue;
}

function other() {
  if (page.marked && track(page.marked)) return page.marked;
  const one = track(page.selected);
  const reason = one && one.reasons.find((r) => r.other && track(r.other));
  return reason ? reason.other : 0;
}

const actions = {
  undo: () => page.state.undo && { op: "undo" },
  redo: () => page.state.redo && { op: "redo" },
  merge: () => {
    const [into, from] = [page.selected, other()];
    if (!from || from === into) { say("Shift + click marks the track to merge with"); return null; }
    // The earlier track keeps its id.
    const [first, second] = track(into).frames[0] <= track(from).frames[0] ? [into, from] : [from, into];
    page.selected = first;
    return { op: "merge", into: first, track: second };
  },
  split: () => ({ op: "split", track: page.selected, frame: page.frame }),
  swap: () => {
    if (!page.marked) { say("Shift + click marks the track to swap with"); return null; }
    return { op: "swap", track: page.selected, other: page.marked, frame: page.frame };
  },
  delete: () => ({ op: "delete", track: page.selected }),
  "delete-here": () => ({ op: "delete", track: page.selected, first: page.frame, last: page.frame }),
  confirm: () => ({ op: "confirm", frame: page.frame,
    confirmed: !page.state.frames.find((one) => one.frame === page.frame).confirmed }),
};

function act(name) {
  const needs = !["undo", "redo", "confirm"].includes(name);
  return edit(() => (needs && !track(page.selected) ? null : actions[name]()));
}

function accept() {
  return edit(() => {
    const one = track(page.selected);
    if (!one) return null;
    const following = neighbour(1);
    const change = { op: "accept", track: one.id, accepted: !one.accepted };
    if (change.accepted && following && !following.accepted) select(following.id, true);
    return change;
  });
}

function neighbour(step) {
  const list = page.state.tracks, place = list.findIndex((one) => one.id === page.selected);
  return place < 0 ? list[0] : list[place + step];
}

function select(id, go) {
  page.selected = id;
  page.marked = 0;
  page.region = null;
  const one = track(id);
  if (one && go) page.frame = one.reasons.length ? one.reasons[0].frame : one.frames[0];
  return update();
}

function step(by) {
  const known = frames(), place = known.indexOf(page.frame);
  page.frame = known[Math.max(0, Math.min(known.length - 1, place + by))];
  return update();
}

function picture(path) {
  return new Promise((done, fail) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = () => fail(new Error(`${path} cannot be loaded`));
    image.src = path;
  });
}

async function update() {
  const known = frames();
  if (!known.includes(page.frame)) page.frame = known[0];
  if (page.region && page.region.frame !== page.frame) page.region = null;
  if (!page.region && !track(page.selected)) page.selected = page.state.tracks.length ? page.state.tracks[0].id : 0;
  if (page.marked && !track(page.marked)) page.marked = 0;
  describe();
  drawLines();
  const wanted = ++page.shown;
  const found = await Promise.all([
    picture(`images/${page.frame}`), picture(`maps/${page.frame}?v=${page.state.version}`),
  ]).catch((error) => say(error.message));
  // A newer request has taken over.
  if (!found || wanted !== page.shown) return;
  page.image = found[0];
  page.map = pixels(found[1]);
  if (page.region) describe();
  drawPicture();
}

function selectRegion(x, y) {
  [page.selected, page.marked, page.region] = [0, 0, { frame: page.frame, x, y }];
  return update();
}

// The pixels of the selected region: those of its class, without a track, that are connected with its pixel.
function regionPixels() {
  const { width, height, data } = page.map, { x, y } = page.region, inside = new Uint8Array(width * height);
  const free = (i) => !inside[i] && data[4 * i] === data[4 * (y * width + x)] && !data[4 * i + 1] && !data[4 * i + 2];
  const open = [y * width + x];
  inside[open[0]] = 1;
  while (open.length) {
    const i = open.pop(), column = i % width;
    for (const dy of [-width, 0, width]) {
      for (const dx of [-1, 0, 1]) {
        const j = i + dy + dx;
        if (j < 0 || j >= inside.length || column + dx < 0 || column + dx >= width || !free(j)) continue;
        inside[j] = 1;
        open.push(j);
      }
    }
  }
  return inside;
}

function pixels(image) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

function drawPicture() {
  const canvas = at("picture"), { width, height, data } = page.map;
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.drawImage(page.image, 0, 0, width, height);
  const shown = context.getImageData(0, 0, width, height), out = shown.data;
  const colors = new Map(page.state.tracks.map((one) => [one.id, one.color]));
  const classes = new Map(page.about.classes.map((one) => [one.id, one.color]));
  const opacity = at("opacity").value / 100, region = page.region && regionPixels();
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i += 4) {
      const id = data[i + 1] * 256 + data[i + 2];
      const inside = region && region[i / 4];
      const color = id ? colors.get(id) : inside ? [255, 255, 255] : classes.get(data[i]);
      if (!color) continue;
      const chosen = id && (id === page.selected || id === page.marked);
      const share = id ? (chosen ? Math.min(1, opacity * 1.5) : opacity) : opacity * 0.4;
      for (let c = 0; c < 3; c++) out[i + c] += (color[c] - out[i + c]) * share;
      const edge = (x + 1 < width && (data[i + 5] !== data[i + 1] || data[i + 6] !== data[i + 2])) ||
        (y + 1 < height && (data[i + 4 * width + 1] !== data[i + 1] || data[i + 4 * width + 2] !== data[i + 2]));
      if (edge) out.fill(chosen ? 255 : 200, i, i + 3);
    }
  }
  context.putImageData(shown, 0, 0);
  document.body.dataset.frame = page.frame;
  document.body.dataset.version = page.state.version;
}

// The pixel of the picture at the mouse and the track there, 0 for none; null outside of the picture.
function pixelAt(event) {
  // The picture keeps its shape inside the canvas element (object-fit: contain).
  const box = at("picture").getBoundingClientRect(), { width, height, data } = page.map;
  const scale = Math.min(box.width / width, box.height / height);
  const x = Math.floor((event.clientX - box.left - (box.width - width * scale) / 2) / scale);
  const y = Math.floor((event.clientY - box.top - (box.height - height * scale) / 2) / scale);
  if (x < 0 || y < 0 || x >= width || y >= height) return null;
  const i = 4 * (y * width + x);
  return { x, y, id: data[i + 1] * 256 + data[i + 2] };
}

function describe() {
  const { tracks } = page.state, one = track(page.selected);
  const here = page.state.frames.find((f) => f.frame === page.frame);
  at("name").textContent = page.about.name;
  const done = tracks.filter((t) => t.accepted).length;
  at("progress").textContent = `${done} of ${tracks.length} tracks accepted, ${page.state.frames.length} of ` +
    `${page.about.frames} frames have labels`;
  at("slider").max = page.about.frames - 1;
  at("slider").value = page.frame;
  at("frame").textContent = `frame ${page.frame}` + (here.confirmed ? ", confirmed" : here.source ? ", labelled" :
    `, propagated, ${(100 * here.uncertain).toFixed(1)} % uncertain`);
  at("confirm").textContent = here.confirmed ? "Take back" : "Confirm frame";
  at("track").textContent = one ? `Track ${one.id}${one.accepted ? ", accepted" : ""}` +
    (page.marked ? `, marked ${page.marked}` : "") : page.region ? `Region of ${className(regionClass())}` : "No track";
  describeClass(one);
  at("accept").textContent = one && one.accepted ? "Not accepted" : "Accept";
  at("merge").textContent = one && other() ? `Merge with ${other()}` : "Merge";
  at("swap").textContent = page.marked ? `Swap with ${page.marked}` : "Swap";
  at("undo").disabled = !page.state.undo;
  at("redo").disabled = !page.state.redo;
  at("reasons").replaceChildren(...(one ? one.reasons : []).map((reason) => {
    const item = document.createElement("li"), button = document.createElement("button");
    button.textContent = `${reason.kind}: ${reason.text} (frame ${reason.frame})`;
    button.addEventListener("click", () => {
      page.frame = reason.frame;
      page.marked = reason.other;
      update();
    });
    item.append(button);
    return item;
  }));
}

function regionClass() { return page.map.data[4 * (page.region.y * page.map.width + page.region.x)]; }

// The choice of a class: things for a track, stuff and void for a region.
function describeClass(one) {
  const stuff = [...page.about.classes.filter((c) => !c.isthing), { id: VOID, name: "void" }];
  const known = page.region ? stuff : page.about.classes.filter((c) => c.isthing);
  at("class").replaceChildren(...known.map(({ id, name }) => new Option(name, id)));
  at("class").value = page.region ? regionClass() : one ? one.class_id : "";
}

function drawLines() {
  const canvas = at("life"), { tracks } = page.state;
  const width = Math.max(500, at("lines").clientWidth);
  [canvas.width, canvas.height] = [width, ROW * (tracks.length + 1)];
  const context = canvas.getContext("2d"), known = frames();
  const place = (frame) => NAMES + (width - NAMES - 10) * frame / Math.max(1, page.about.frames - 1);
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  for (const one of page.state.frames) {
    context.fillStyle = one.source ? "#6cb6ff" : `rgba(255,120,80,${Math.min(1, 10 * one.uncertain)})`;
    context.fillRect(place(one.frame) - 1, 2, 2, one.source ? ROW - 4 : ROW / 2);
  }
  const order = new Map(known.map((frame, i) => [frame, i]));
  tracks.forEach((one, row) => {
    const y = ROW * (row + 1) + ROW / 2;
    if (one.id === page.selected || one.id === page.marked) {
      context.fillStyle = one.id === page.selected ? "#33405a" : "#4a3d28";
      context.fillRect(0, y - ROW / 2, width, ROW);
    }
    context.fillStyle = one.accepted ? "#7ee787" : `rgb(230,${Math.round(230 - 140 * one.uncertainty)},90)`;
    context.fillText(`${one.accepted ? "✓" : (100 * one.uncertainty).toFixed(0)}`, 6, y);
    context.fillStyle = "#e6e8eb";
    context.fillText(`${one.id} ${className(one.class_id)}`, 40, y, NAMES - 48);
    context.strokeStyle = context.fillStyle = `rgb(${one.color.join(",")})`;
    one.frames.forEach((frame, i) => {
      const next = one.frames[i + 1];
      const joined = next !== undefined && order.get(next) === order.get(frame) + 1;
      context.fillRect(place(frame) - 2, y - 4, joined ? place(next) - place(frame) + 4 : 4, 8);
    });
    context.fillStyle = "#ff5050";
    for (const reason of one.accepted ? [] : one.reasons) context.fillRect(place(reason.frame) - 1, y - 7, 3, 3);
  });
  context.fillStyle = "#ffffff";
  context.fillRect(place(page.frame), 0, 1, canvas.height);
}

function lineAt(event) {
  const box = at("life").getBoundingClientRect();
  const one = page.state.tracks[Math.floor((event.clientY - box.top) / ROW) - 1];
  const x = event.clientX - box.left;
  const frame = (x - NAMES) / (box.width - NAMES - 10) * Math.max(1, page.about.frames - 1);
  const nearest = frames().reduce((a, b) => (Math.abs(b - frame) < Math.abs(a - frame) ? b : a));
  return { id: one ? one.id : 0, frame: x >= NAMES ? nearest : null };
}

const keys = {
  n: () => { const one = neighbour(1); if (one) select(one.id, true); },
  p: () => { const one = neighbour(-1); if (one) select(one.id, true); },
  a: accept,
  m: () => act("merge"), s: () => act("split"), x: () => act("swap"), h: () => act("delete-here"),
  Delete: () => act("delete"), f: () => act("confirm"), u: () => act("undo"), r: () => act("redo"),
  c: () => at("class").focus(),
  ArrowLeft: () => step(-1), ArrowRight: () => step(1), Home: () => step(-1e9), End: () => step(1e9),
};

function listen() {
  document.addEventListener("keydown", (event) => {
    const control = event.ctrlKey || event.metaKey;
    const name = control ? { z: "u", y: "r" }[event.key] : event.key;
    if (!keys[name] || event.altKey || ["SELECT", "INPUT"].includes(event.target.tagName)) return;
    event.preventDefault();
    keys[name]();
  });
  for (const name of Object.keys(actions)) at(name).addEventListener("click", () => act(name));
  at("accept").addEventListener("click", accept);
  at("previous").addEventListener("click", () => step(-1));
  at("next").addEventListener("click", () => step(1));
  at("opacity").addEventListener("input", drawPicture);
  at("slider").addEventListener("input", () => {
    const wanted = Number(at("slider").value);
    page.frame = frames().reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a));
    update();
  });
  at("class").addEventListener("change", () => {
    const chosen = Number(at("class").value);
    edit(() => (page.region ? { op: "classify-stuff", ...page.region, class_id: chosen } :
      track(page.selected) && { op: "classify", track: page.selected, class_id: chosen }));
    at("picture").focus();
  });
  at("picture").addEventListener("click", (event) => {
    const pixel = page.map && pixelAt(event);
    if (!pixel) return;
    if (!event.shiftKey) { if (pixel.id) select(pixel.id, false); else selectRegion(pixel.x, pixel.y); }
    else if (pixel.id) { page.marked = pixel.id; update(); }
  });
  at("life").addEventListener("click", (event) => {
    const { id, frame } = lineAt(event);
    if (frame !== null) page.frame = frame;
    if (id && event.shiftKey) { page.marked = id; update(); } else if (id) select(id, false); else update();
  });
  window.addEventListener("resize", drawLines);
}

async function start() {
  page.about = await ask("api/project");
  page.state = await ask("api/state");
  listen();
  if (page.state.tracks.length) await select(page.state.tracks[0].id, true); else await update();
}

start().catch((error) => say(error.message));
