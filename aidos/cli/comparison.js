"use strict";
// Draws the runs of #data: a table to sort and filter, curves, a scatter plot, parallel coordinates. Names and values of
// runs go into the page as text only, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const WIDTH = 560, HEIGHT = 320, LEFT = 56, RIGHT = 12, TOP = 16, BOTTOM = 40;
const chosen = new Set();
const sorted = { field: null, down: false };

function element(name, attributes = {}, ...children) {
  const made = name.startsWith("svg:") ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function number(value) {
  if (typeof value === "number") return value;
  return typeof value === "string" && value.trim() !== "" ? Number(value) : NaN;
}

function short(value) {
  if (value === undefined || value === null) return "";
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(5)));
}

function moment(seconds) { return new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " "); }

// From values to pixels: along a line where all of them are numbers, else side by side in the order of their text.
function scale(values, from, to, { log = false, label = short } = {}) {
  const present = values.filter((value) => value !== undefined && value !== null && value !== "");
  const numeric = present.every((value) => typeof value === "number" || ["NaN", "Infinity", "-Infinity"].includes(value) || !Number.isNaN(number(value)));
  const texts = numeric ? [] : [...new Set(present.map(String))].sort();
  const place = (value) => {
    if (value === undefined || value === null || value === "") return NaN;
    if (!numeric) return texts.indexOf(String(value));
    return log ? Math.log10(number(value)) : number(value);
  };
  const finite = present.map(place).filter(Number.isFinite);
  const low = finite.reduce((a, b) => Math.min(a, b), Infinity), high = finite.reduce((a, b) => Math.max(a, b), -Infinity);
  const at = (value) => {
    const placed = place(value);
    return Number.isFinite(placed) ? from + (to - from) * (high > low ? (placed - low) / (high - low) : 0.5) : NaN;
  };
  const back = (placed) => (numeric ? label(log ? 10 ** placed : placed) : texts[placed] ?? "");
  const middle = numeric && high > low ? [[(low + high) / 2, (from + to) / 2]] : [];
  return { at, ticks: finite.length ? [[low, at(numeric ? (log ? 10 ** low : low) : texts[low])], ...middle, ...(high > low ? [[high, to]] : [])].map(([value, where]) => [back(value), where]) : [] };
}

function hue(share) { return `hsl(${Math.round(220 - 190 * share)} 75% 48%)`; }
function color(index) { return `hsl(${Math.round((index * 137.508) % 360)} 65% 48%)`; }

function mark(shape, index, attributes) {
  const run = data.runs[index];
  const made = element(shape, {
    ...attributes, class: "run", "data-run": index, tabindex: -1,
    onclick: () => choose(index), onmouseenter: () => say(index), onmouseleave: () => say(null),
  });
  made.append(element("svg:title", {}, run.name));
  return made;
}

function axes(x, y, xName, yName) {
  const bottom = HEIGHT - BOTTOM, parts = [element("svg:path", { class: "axis", d: `M${LEFT} ${TOP}V${bottom}H${WIDTH - RIGHT}` })];
  x.ticks.forEach(([text, at], i) => parts.push(element("svg:text", { x: at, y: bottom + 14, "text-anchor": i === 0 ? "start" : i === x.ticks.length - 1 ? "end" : "middle" }, text.slice(0, 20))));
  y.ticks.forEach(([text, at]) => parts.push(element("svg:text", { x: LEFT - 5, y: at + 4, "text-anchor": "end" }, text.slice(0, 9))));
  parts.push(element("svg:text", { x: (LEFT + WIDTH) / 2, y: bottom + 30, "text-anchor": "middle" }, xName), element("svg:text", { x: 4, y: 11 }, yName));
  return parts;
}

function picture(label, parts) {
  return element("svg:svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, role: "img", "aria-label": label }, ...parts);
}

function drawCurves({ metric, x: axis, log }) {
  const curves = data.curves.filter((curve) => curve.key === metric);
  const along = (curve) => (axis === "step" ? curve.steps : axis === "wall" ? curve.at : curve.at.map((at) => at - data.runs[curve.run].started));
  const x = scale(curves.flatMap(along), LEFT, WIDTH - RIGHT, { label: axis === "wall" ? moment : short });
  const y = scale(curves.flatMap((curve) => curve.values), HEIGHT - BOTTOM, TOP, { log });
  const lines = curves.map((curve) => {
    const xs = along(curve);
    let pen = "M";
    const path = curve.values.map((value, i) => {
      const [a, b] = [x.at(xs[i]), y.at(value)];
      if (!Number.isFinite(a) || !Number.isFinite(b)) { pen = "M"; return ""; }
      const drawn = `${pen}${a.toFixed(1)} ${b.toFixed(1)}`;
      pen = "L";
      return drawn;
    });
    return mark("svg:path", curve.run, { d: path.join(""), stroke: color(curve.run) });
  });
  const names = { step: "step", time: "seconds since the run began", wall: "time (UTC)" };
  return picture(`${metric} by ${axis}`, [...axes(x, y, names[axis], metric), ...lines]);
}

function drawScatter({ x: xField, y: yField }) {
  const x = scale(data.runs.map((run) => run.cells[xField]), LEFT + 6, WIDTH - RIGHT - 6), y = scale(data.runs.map((run) => run.cells[yField]), HEIGHT - BOTTOM - 6, TOP + 6);
  const dots = data.runs.flatMap((run, index) => {
    const [a, b] = [x.at(run.cells[xField]), y.at(run.cells[yField])];
    return Number.isFinite(a) && Number.isFinite(b) ? [mark("svg:circle", index, { cx: a.toFixed(1), cy: b.toFixed(1), r: 4, stroke: color(index) })] : [];
  });
  dots.forEach((dot) => dot.setAttribute("fill", dot.getAttribute("stroke")));
  return picture(`${yField} by ${xField}`, [...axes(x, y, xField, yField), ...dots]);
}

function drawParallel({ fields }) {
  const width = (WIDTH - LEFT - RIGHT - 40) / Math.max(1, fields.length - 1);
  const scales = fields.map((field) => scale(data.runs.map((run) => run.cells[field]), HEIGHT - BOTTOM, TOP + 12));
  const last = fields[fields.length - 1], shade = scale(data.runs.map((run) => run.cells[last]), 0, 1);
  const lines = data.runs.flatMap((run, index) => {
    // What a run does not have stands under the axis.
    const points = fields.map((field, i) => [LEFT + i * width, scales[i].at(run.cells[field])]).map(([a, b]) => `${a.toFixed(1)},${(Number.isFinite(b) ? b : HEIGHT - BOTTOM + 16).toFixed(1)}`);
    const share = shade.at(run.cells[last]);
    return [mark("svg:polyline", index, { points: points.join(" "), stroke: Number.isFinite(share) ? hue(share) : "gray" })];
  });
  const frames = fields.flatMap((field, i) => {
    const at = LEFT + i * width;
    return [
      element("svg:path", { class: "axis", d: `M${at} ${TOP + 12}V${HEIGHT - BOTTOM}` }),
      element("svg:text", { x: at, y: i % 2 ? 9 : 21, "text-anchor": "middle" }, field.slice(0, 24)),
      ...scales[i].ticks.map(([text, down]) => element("svg:text", { x: at + 3, y: down + 3 }, text.slice(0, 9))),
    ];
  });
  return picture(`parallel coordinates of ${fields.join(", ")}`, [...lines, ...frames]);
}

function select(label, options, value, change, multiple = false) {
  const wanted = [value].flat();
  const box = element("select", { "aria-label": label, onchange: () => change(multiple ? [...box.selectedOptions].map((o) => o.value) : box.value) });
  if (multiple) box.multiple = true, box.size = 3;
  for (const option of options) {
    const made = element("option", { value: option }, option);
    made.selected = wanted.includes(option);
    box.append(made);
  }
  return element("label", {}, `${label} `, box);
}

function figure(chart) {
  const fields = data.fields, metrics = [...new Set(data.curves.map((curve) => curve.key))];
  const frame = element("figure"), caption = element("figcaption"), state = { ...chart };
  const redraw = () => {
    frame.replaceChildren(caption, { curves: drawCurves, scatter: drawScatter, parallel: drawParallel }[chart.kind](state));
    frame.classList.toggle("some", chosen.size > 0);
    for (const index of chosen) frame.querySelectorAll(`[data-run="${index}"]`).forEach((each) => each.classList.add("chosen"));
  };
  const set = (key) => (value) => { state[key] = value; redraw(); };
  if (chart.kind === "curves") {
    const box = element("input", { type: "checkbox", onchange: () => set("log")(box.checked) });
    caption.append(select("metric", metrics, state.metric, set("metric")), select("by", ["step", "time", "wall"], state.x, set("x")), element("label", {}, box, " log"));
  } else if (chart.kind === "scatter") {
    caption.append(select("x", fields, state.x, set("x")), select("y", fields, state.y, set("y")));
  } else {
    caption.append(select("axes", fields, state.fields, set("fields"), true));
  }
  redraw();
  return { frame, redraw };
}

function compare(field) {
  return (one, other) => {
    const [a, b] = [one.cells[field], other.cells[field]], [x, y] = [number(a), number(b)];
    const empty = (value) => value === undefined || value === null || value === "" || value === "NaN";
    if (empty(a) || empty(b)) return empty(a) - empty(b); // at the end, in either direction
    const order = Number.isNaN(x) || Number.isNaN(y) ? String(a).localeCompare(String(b)) : x - y;
    return sorted.down ? -order : order;
  };
}

function fillTable() {
  const wanted = document.getElementById("filter").value.toLowerCase();
  const kept = data.runs.filter((run) => !wanted || Object.values(run.cells).some((value) => String(value).toLowerCase().includes(wanted)));
  if (sorted.field) kept.sort(compare(sorted.field));
  const rows = kept.map((run) => {
    const index = data.runs.indexOf(run);
    const cells = data.columns.map((field) => element("td", { class: typeof run.cells[field] === "number" ? "number" : "", title: String(run.cells[field] ?? "") }, short(run.cells[field])));
    return element("tr", { class: chosen.has(index) ? "chosen" : "", onclick: () => choose(index) }, ...cells);
  });
  const heads = data.columns.map((field) => {
    const direction = sorted.field !== field ? "none" : sorted.down ? "descending" : "ascending";
    const sign = { none: "", ascending: " ▲", descending: " ▼" }[direction];
    const button = element("button", { onclick: () => { sorted.down = sorted.field === field && !sorted.down; sorted.field = field; fillTable(); } }, field + sign);
    return element("th", { "aria-sort": direction, scope: "col" }, button);
  });
  document.getElementById("runs").replaceChildren(element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
}

function say(index) {
  const run = index === null ? null : data.runs[index];
  document.getElementById("said").textContent = run ? [run.name, ...data.columns.slice(1, 9).map((field) => `${field} ${short(run.cells[field])}`)].join(" · ") : "";
}

function choose(index) {
  if (!chosen.delete(index)) chosen.add(index);
  figures.forEach(({ redraw }) => redraw());
  fillTable();
}

const figures = data.charts.map(figure);
document.getElementById("charts").append(...figures.map(({ frame }) => frame));
document.getElementById("filter").addEventListener("input", fillTable);
fillTable();
