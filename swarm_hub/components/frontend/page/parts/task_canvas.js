/**
 * Draws a job's attempts: a row for each lane of a node, a bar for each attempt. What is narrower
 * than a pixel is drawn together with its neighbours, so that a frame costs what can be seen.
 */
import {
  CANCELLED,
  COPY,
  DONE,
  FAILED,
  LIVE,
  RETRY,
  RETURNED,
  SUPERSEDED,
} from "../core/job_model.js";

export const AXIS_HEIGHT = 22;
const GAP = 1;
const SPLIT_PX = 3;
const PATTERN_PX = 4;
const TICK_PX = 70;
const STEPS_S = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900,
  1800, 3600, 7200, 14_400, 43_200, 86_400, 172_800, 604_800,
];
// What matters most is drawn last, over the others.
const DRAWN = [CANCELLED, SUPERSEDED, DONE, LIVE, RETURNED, FAILED];
const N_KINDS = 3;
const N_CLASSES = DRAWN.length * N_KINDS;

/** Bars of one look, as x, width and row; they are kept for the next frame. */
class Bars {
  constructor() {
    this.n = 0;
    this.numbers = new Float32Array(3 * 256);
  }

  add(x, width, y) {
    const at = 3 * this.n;
    if (at + 3 > this.numbers.length) {
      const larger = new Float32Array(2 * this.numbers.length);
      larger.set(this.numbers);
      this.numbers = larger;
    }
    this.numbers[at] = x;
    this.numbers[at + 1] = width;
    this.numbers[at + 2] = y;
    this.n += 1;
  }
}

const bars = Array.from({ length: N_CLASSES }, () => new Bars());
// Of each row: what was drawn last, from where to where; -1 for nothing yet.
let rowClass = new Int8Array(0);
let rowFrom = new Float32Array(0);
let rowTo = new Float32Array(0);

/** Returns the step between ticks, in seconds, of so many seconds over so many pixels. */
export function tickStep(seconds, width) {
  const wanted = (seconds * TICK_PX) / Math.max(width, 1);
  return STEPS_S.find((step) => step >= wanted) ?? STEPS_S[STEPS_S.length - 1];
}

/**
 * Gathers the bars to draw. `look`: `from`, `to` and `time` in ms, `left`, `width`, `top`, `height`
 * and `scroll` in pixels, and `row`, the height of one.
 */
function gather(model, look) {
  const { nLanes, offsets, order } = model.lanes();
  const { offered, ended, state, kind, node, lane, from: begun, to: over } = model.columns;
  if (rowClass.length < nLanes) {
    rowClass = new Int8Array(nLanes);
    rowFrom = new Float32Array(nLanes);
    rowTo = new Float32Array(nLanes);
  }
  rowClass.fill(-1);
  for (const each of bars) each.n = 0;
  const { from, to, time, left, width, row, scroll, top, height } = look;
  const scale = width / (to - from);
  const right = left + width;
  const firstRow = Math.floor(scroll / row);
  const lastRow = Math.ceil((scroll + height) / row);
  const flush = (at) => {
    const wide = rowTo[at] - rowFrom[at];
    bars[rowClass[at]].add(rowFrom[at], Math.max(1, wide), top + at * row - scroll);
  };
  for (const each of order) {
    const at = offsets[node[each]] + lane[each];
    if (at < firstRow || at >= lastRow) continue;
    if (offered[each] > time) continue;
    const isLive = ended[each] > time;
    const begins = Math.min(begun[each], time);
    const ends = Math.min(over[each], time);
    if (ends < from || begins > to) continue;
    const x0 = Math.max(left, left + (begins - from) * scale);
    const x1 = Math.min(right, left + (ends - from) * scale);
    const number = (isLive ? LIVE : state[each]) * N_KINDS + kind[each];
    const wide = x1 - x0;
    const before = rowClass[at];
    if (before >= 0) {
      const gap = x0 - rowTo[at];
      const isThin = wide < SPLIT_PX;
      if (isThin && gap < GAP && before === number) {
        rowTo[at] = Math.max(rowTo[at], x1);
        continue;
      }
      flush(at);
    }
    rowClass[at] = number;
    rowFrom[at] = x0;
    rowTo[at] = x1;
  }
  for (let at = Math.max(0, firstRow); at < Math.min(nLanes, lastRow); at += 1) {
    if (rowClass[at] >= 0) flush(at);
  }
}

/** Draws everything; `colors` as `colorsOf` returns them, `names` the name of each node. */
export function draw(context, model, look, colors, names) {
  const { left, width, top, height, row } = look;
  context.clearRect(0, 0, left + width, top + height);
  gather(model, look);
  drawRows(context, model, look, colors, names);
  drawAxis(context, model, look, colors);
  context.save();
  context.beginPath();
  context.rect(left, top, width, height);
  context.clip();
  const thick = row >= 4 ? row - GAP : row;
  for (const state of DRAWN) {
    for (let kind = 0; kind < N_KINDS; kind += 1) drawBars(context, state, kind, thick, colors);
  }
  context.restore();
}

function drawBars(context, state, kind, thick, colors) {
  const { n, numbers } = bars[state * N_KINDS + kind];
  if (n === 0) return;
  context.fillStyle = colors.states[state];
  for (let at = 0; at < 3 * n; at += 3) {
    const wide = numbers[at + 1];
    context.fillRect(numbers[at], numbers[at + 2], wide >= SPLIT_PX ? wide - GAP : wide, thick);
  }
  const overlay =
    state === FAILED
      ? colors.patterns.failed
      : state === RETURNED
        ? colors.patterns.returned
        : state === SUPERSEDED || state === CANCELLED
          ? colors.patterns.ended
          : kind === RETRY
            ? colors.patterns.retry
            : kind === COPY
              ? colors.patterns.copy
              : null;
  if (overlay !== null) {
    context.fillStyle = overlay;
    for (let at = 0; at < 3 * n; at += 3) {
      const wide = numbers[at + 1];
      if (wide >= PATTERN_PX) context.fillRect(numbers[at], numbers[at + 2], wide - GAP, thick);
    }
  }
  if (state !== LIVE) return;
  // What runs has an edge that moves.
  context.fillStyle = colors.edge;
  for (let at = 0; at < 3 * n; at += 3) {
    context.fillRect(numbers[at] + numbers[at + 1] - 1.5, numbers[at + 2], 1.5, thick);
  }
}

function drawRows(context, model, look, colors, names) {
  const { left, width, top, height, row, scroll } = look;
  const { nLanes, offsets } = model.lanes();
  context.font = colors.font;
  context.textBaseline = "middle";
  context.textAlign = "left";
  let labelled = -Infinity;
  for (let node = 0; node < offsets.length; node += 1) {
    const y = top + offsets[node] * row - scroll;
    const next = top + (offsets[node + 1] ?? nLanes) * row - scroll;
    if (next < top || y > top + height) continue;
    context.fillStyle = node % 2 ? colors.odd : colors.even;
    context.fillRect(
      0,
      Math.max(top, y),
      left + width,
      Math.min(next, top + height) - Math.max(top, y),
    );
    const middle = (Math.max(top, y) + Math.min(next, top + height)) / 2;
    if (left > 0 && middle - labelled >= 12) {
      labelled = middle;
      context.fillStyle = colors.text;
      context.fillText(fitted(context, names[node], left - 8), 4, middle);
    }
  }
}

const fits = new Map();

function fitted(context, text, width) {
  const key = `${width}\n${text}`;
  const known = fits.get(key);
  if (known !== undefined) return known;
  let shown = text;
  while (shown.length > 1 && context.measureText(shown).width > width) {
    shown = `${shown.replace(/…$/, "").slice(0, -1)}…`;
  }
  if (fits.size > 1000) fits.clear();
  fits.set(key, shown);
  return shown;
}

function drawAxis(context, model, look, colors) {
  const { from, to, left, width, top, height } = look;
  const seconds = (to - from) / 1000;
  const step = tickStep(seconds, width);
  const zero = model.start;
  const first = Math.ceil((from - zero) / 1000 / step);
  context.font = colors.font;
  context.textBaseline = "middle";
  context.textAlign = "left";
  for (let at = first; ; at += 1) {
    const x = left + ((zero + at * step * 1000 - from) / (to - from)) * width;
    if (!(x <= left + width) || at - first > 200) break;
    context.fillStyle = colors.grid;
    context.fillRect(Math.round(x), top - 5, 1, height + 5);
    context.fillStyle = colors.text;
    if (x < left + width - 30) context.fillText(tickText(at * step, step), x + 4, AXIS_HEIGHT / 2);
  }
}

function tickText(seconds, step) {
  if (step < 1) return `${seconds.toFixed(step < 0.01 ? 3 : step < 0.1 ? 2 : 1)} s`;
  if (step < 60)
    return seconds < 60
      ? `${seconds} s`
      : `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} min`;
  if (step < 3600) return `${Math.round(seconds / 60)} min`;
  return `${Math.round((10 * seconds) / 3600) / 10} h`;
}

/** Reads the colours of an element's theme, with patterns that tell as much without colour. */
export function colorsOf(element, context) {
  const style = getComputedStyle(element);
  const color = (name) => style.getPropertyValue(name).trim() || "gray";
  const states = [];
  states[LIVE] = color("--task-live");
  states[DONE] = color("--task-done");
  states[FAILED] = color("--task-failed");
  states[RETURNED] = color("--task-returned");
  states[SUPERSEDED] = color("--task-ended");
  states[CANCELLED] = color("--task-ended");
  const ink = color("--task-ink");
  return {
    states,
    patterns: {
      retry: pattern(context, ink, [
        [0, 6, 6, 0],
        [-1, 1, 1, -1],
        [5, 7, 7, 5],
      ]),
      copy: pattern(context, ink, [[1.5, 3, 4.5, 3]]),
      failed: pattern(context, ink, [
        [0, 6, 6, 0],
        [0, 0, 6, 6],
      ]),
      returned: pattern(context, ink, [
        [0, 0, 6, 6],
        [5, -1, 7, 1],
        [-1, 5, 1, 7],
      ]),
      ended: pattern(context, color("--task-paper"), [
        [0, 1, 6, 1],
        [0, 4, 6, 4],
      ]),
    },
    edge: color("--task-edge"),
    grid: color("--task-grid"),
    text: color("--task-text"),
    even: color("--task-even"),
    odd: color("--task-odd"),
    paper: color("--task-paper"),
    font: `11px ${style.fontFamily}`,
  };
}

function pattern(context, ink, lines) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const into = tile.getContext("2d");
  into.strokeStyle = ink;
  into.lineWidth = 1.2;
  for (const [x0, y0, x1, y1] of lines) {
    into.beginPath();
    into.moveTo(x0, y0);
    into.lineTo(x1, y1);
    into.stroke();
  }
  return context.createPattern(tile, "repeat");
}
