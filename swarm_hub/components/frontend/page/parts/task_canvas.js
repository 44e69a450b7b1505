/**
 * Draws a job's attempts: a row for each lane of a node, a bar for each attempt. What is narrower
 * than a pixel is drawn together with its neighbours, so that a frame costs what can be seen.
 */
import { CANCELLED, COPY, DONE, FAILED, LIVE, RETRY, RETURNED, SUPERSEDED } from
  "../core/job_model.js";

export const AXIS_HEIGHT = 22;
const GAP = 1;
const SPLIT_PX = 3;
const PATTERN_PX = 4;
const TICK_PX = 70;
const STEPS_S = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120,
  300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400, 172_800, 604_800];
// What matters most is drawn last, over the others.
const DRAWN = [CANCELLED, SUPERSEDED, DONE, LIVE, RETURNED, FAILED];
const N_KINDS = 3;

// Bars of one look each: x, width and y of one after the other.
const bars = Array.from({ length: DRAWN.length * N_KINDS }, () => []);

/**
 * Gathers the bars to draw. `look`: `from`, `to` and `time` in ms, `left`, `width`, `height` and
 * `scroll` in pixels, and `row`, the height of one.
 */
function gather(model, { from, to, time, left, width, row, scroll, height }) {
  const { nLanes, offsets, order } = model.lanes();
  const { offered, ended, state, kind, node, lane, from: begun, to: over } = model.columns;
  for (const each of bars) each.length = 0;
  // Of each row: what was drawn last, from where to where; -1 for nothing yet.
  const look = new Int8Array(nLanes).fill(-1);
  const begins = new Float32Array(nLanes);
  const ends = new Float32Array(nLanes);
  const flush = (at) => bars[look[at]].push(begins[at], Math.max(1, ends[at] - begins[at]),
    AXIS_HEIGHT + at * row - scroll);
  const scale = width / (to - from);
  const firstRow = Math.floor(scroll / row);
  const lastRow = Math.min(nLanes, Math.ceil((scroll + height) / row));
  for (const each of order) {
    const at = offsets[node[each]] + lane[each];
    if (at < firstRow || at >= lastRow || offered[each] > time) continue;
    const x0 = left + Math.max(0, (Math.min(begun[each], time) - from) * scale);
    const x1 = left + Math.min(width, (Math.min(over[each], time) - from) * scale);
    if (x1 < left || x0 > left + width) continue;
    const number = (ended[each] > time ? LIVE : state[each]) * N_KINDS + kind[each];
    if (look[at] === number && x1 - x0 < SPLIT_PX && x0 - ends[at] < GAP) {
      ends[at] = Math.max(ends[at], x1);
      continue;
    }
    if (look[at] >= 0) flush(at);
    look[at] = number;
    begins[at] = x0;
    ends[at] = x1;
  }
  for (let at = firstRow; at < lastRow; at += 1) if (look[at] >= 0) flush(at);
}

/** Draws everything; `colors` as `colorsOf` returns them, `names` the name of each node. */
export function draw(context, model, look, colors, names) {
  const { left, width, height, row } = look;
  context.clearRect(0, 0, left + width, AXIS_HEIGHT + height);
  context.font = colors.font;
  context.textBaseline = "middle";
  gather(model, look);
  drawRows(context, model, look, colors, names);
  drawAxis(context, model, look, colors);
  context.save();
  context.beginPath();
  context.rect(left, AXIS_HEIGHT, width, height);
  context.clip();
  const thick = row >= 4 ? row - GAP : row;
  for (const state of DRAWN) {
    for (let kind = 0; kind < N_KINDS; kind += 1) drawBars(context, state, kind, thick, colors);
  }
  context.restore();
}

function drawBars(context, state, kind, thick, { states, patterns, kinds, edge }) {
  const found = bars[state * N_KINDS + kind];
  const each = (style, draw) => {
    context.fillStyle = style;
    for (let at = 0; at < found.length; at += 3) draw(found[at], found[at + 1], found[at + 2]);
  };
  each(states[state], (x, wide, y) =>
    context.fillRect(x, y, wide >= SPLIT_PX ? wide - GAP : wide, thick));
  const pattern = patterns[state] ?? kinds[kind];
  if (pattern) {
    each(pattern, (x, wide, y) => wide >= PATTERN_PX && context.fillRect(x, y, wide - GAP, thick));
  }
  // What runs has an edge that moves.
  if (state === LIVE) each(edge, (x, wide, y) => context.fillRect(x + wide - 1.5, y, 1.5, thick));
}

function drawRows(context, model, { left, width, height, row, scroll }, colors, names) {
  const { nLanes, offsets } = model.lanes();
  let labelled = -Infinity;
  for (let node = 0; node < offsets.length; node += 1) {
    const y = Math.max(0, offsets[node] * row - scroll);
    const next = Math.min(height, (offsets[node + 1] ?? nLanes) * row - scroll);
    if (next < y) continue;
    context.fillStyle = node % 2 ? colors.odd : colors.even;
    context.fillRect(0, AXIS_HEIGHT + y, left + width, next - y);
    const middle = AXIS_HEIGHT + (y + next) / 2;
    if (middle - labelled < 12) continue;
    labelled = middle;
    context.fillStyle = colors.text;
    context.fillText(fitted(context, names[node], left - 8), 4, middle);
  }
}

const fits = new Map();

function fitted(context, text, width) {
  const key = `${width}\n${text}`;
  let shown = fits.get(key) ?? text;
  if (fits.has(key)) return shown;
  while (shown.length > 1 && context.measureText(shown).width > width) {
    shown = `${shown.replace(/…$/, "").slice(0, -1)}…`;
  }
  if (fits.size > 1000) fits.clear();
  fits.set(key, shown);
  return shown;
}

function drawAxis(context, { start }, { from, to, left, width, height }, colors) {
  const seconds = (to - from) / 1000;
  const wanted = (seconds * TICK_PX) / Math.max(width, 1);
  const step = STEPS_S.find((each) => each >= wanted) ?? STEPS_S.at(-1);
  const first = Math.ceil((from - start) / 1000 / step);
  for (let at = first; at - first <= 200; at += 1) {
    const x = left + ((start + at * step * 1000 - from) / (to - from)) * width;
    if (x > left + width) break;
    context.fillStyle = colors.grid;
    context.fillRect(Math.round(x), AXIS_HEIGHT - 5, 1, height + 5);
    context.fillStyle = colors.text;
    if (x < left + width - 30) context.fillText(tickText(at * step, step), x + 4, AXIS_HEIGHT / 2);
  }
}

function tickText(seconds, step) {
  if (step < 1) return `${seconds.toFixed(step < 0.01 ? 3 : step < 0.1 ? 2 : 1)} s`;
  if (step < 60 && seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (step < 60) return `${minutes}:${String(seconds % 60).padStart(2, "0")} min`;
  return step < 3600 ? `${minutes} min` : `${Math.round((10 * seconds) / 3600) / 10} h`;
}

/** Reads the colours of an element's theme, with patterns that tell as much without colour. */
export function colorsOf(element, context) {
  const style = getComputedStyle(element);
  const color = (name) => style.getPropertyValue(`--task-${name}`).trim() || "gray";
  const [live, done, failed, returned, ended, ink, paper, edge, grid, text, even, odd] = ["live",
    "done", "failed", "returned", "ended", "ink", "paper", "edge", "grid", "text", "even", "odd"]
    .map(color);
  const lines = pattern(context, paper, [[0, 1, 6, 1], [0, 4, 6, 4]]);
  return {
    states: { [LIVE]: live, [DONE]: done, [FAILED]: failed, [RETURNED]: returned,
      [SUPERSEDED]: ended, [CANCELLED]: ended },
    patterns: {
      [FAILED]: pattern(context, ink, [[0, 6, 6, 0], [0, 0, 6, 6]]),
      [RETURNED]: pattern(context, ink, [[0, 0, 6, 6], [5, -1, 7, 1], [-1, 5, 1, 7]]),
      [SUPERSEDED]: lines, [CANCELLED]: lines,
    },
    // For what has no pattern by its state.
    kinds: {
      [RETRY]: pattern(context, ink, [[0, 6, 6, 0], [-1, 1, 1, -1], [5, 7, 7, 5]]),
      [COPY]: pattern(context, ink, [[1.5, 3, 4.5, 3]]),
    },
    edge, grid, text, even, odd, font: `11px ${style.fontFamily}`,
  };
}

function pattern(context, ink, lines) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const into = tile.getContext("2d");
  into.strokeStyle = ink;
  into.lineWidth = 1.2;
  for (const [x0, y0, x1, y1] of lines) {
    into.moveTo(x0, y0);
    into.lineTo(x1, y1);
  }
  into.stroke();
  return context.createPattern(tile, "repeat");
}
