/** Graphs of lines over time on a canvas, and what the hub remembers of its last hour for them. */
import { api } from "../core/connection.js";
import { h, inFrame, setText } from "../core/dom.js";
import { short } from "../core/format.js";

const RIGHT = 8;
const TOP = 10;
const BOTTOM = 22;
const TICKS = [0, 0.5, 1];
const STEPS_S = [5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600];

class Graph extends HTMLElement {
  #canvas = h("canvas", { "aria-hidden": "true" });
  #legend = h("div.graph-legend");
  #given = { title: "", unit: "", seconds: 600, series: [] };
  #draw = inFrame(() => this.#paint());
  #watch = null;
  #theme = matchMedia("(prefers-color-scheme: dark)");

  connectedCallback() {
    if (!this.firstChild) this.append(this.#legend, this.#canvas);
    this.setAttribute("role", "figure");
    this.#watch = new ResizeObserver(this.#draw);
    this.#watch.observe(this);
    this.#theme.addEventListener("change", this.#draw);
  }

  disconnectedCallback() {
    this.#watch.disconnect();
    this.#theme.removeEventListener("change", this.#draw);
  }

  /**
   * `{title, unit, seconds, most?, now?, format?, binary?, series: [{label, color, points: [[t, value]]}]}`:
   * `t` in seconds since the epoch, a value of null is a gap, `color` the name of a CSS property,
   * `most` the least upper end of the axis; with `binary` that is a power of two, as of bytes.
   */
  set value(given) {
    this.#given = { ...this.#given, ...given };
    this.#describe();
    this.#draw();
  }

  #describe() {
    const { title, series } = this.#given;
    const texts = series.map(({ label, points }) =>
      `${label} ${this.#text(points.at(-1)?.[1] ?? null)}`);
    if (this.#legend.childElementCount !== series.length) {
      this.#legend.replaceChildren(...series.map(({ color }) => {
        const swatch = h("span.graph-swatch", { "aria-hidden": "true" });
        swatch.style.background = `var(${color})`;
        return h("span.graph-key", swatch, h("span"));
      }));
    }
    texts.forEach((text, index) => setText(this.#legend.children[index].lastChild, text));
    this.setAttribute("aria-label", `${title}: ${texts.join(", ")}`);
  }

  #text(value) {
    if (value === null) return "–";
    return this.#given.format ? this.#given.format(value) : `${short(value)} ${this.#given.unit}`;
  }

  #paint() {
    const width = this.#canvas.clientWidth;
    const height = this.#canvas.clientHeight;
    if (!width || !height || !this.isConnected) return;
    const scale = devicePixelRatio || 1;
    if (this.#canvas.width !== Math.round(width * scale)) {
      this.#canvas.width = Math.round(width * scale);
    }
    if (this.#canvas.height !== Math.round(height * scale)) {
      this.#canvas.height = Math.round(height * scale);
    }
    const context = this.#canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    const css = getComputedStyle(this);
    context.font = `11px ${css.fontFamily}`;
    const area = { width, height, ...this.#range() };
    area.left = 8 + Math.max(...TICKS.map((part) =>
      context.measureText(this.#text(area.most * part)).width));
    area.x = (at) => area.left +
      ((at - area.from) / (area.to - area.from)) * (width - area.left - RIGHT);
    area.y = (value) => height - BOTTOM - (value / area.most) * (height - TOP - BOTTOM);
    this.#axes(context, css, area);
    for (const series of this.#given.series) line(context, css, area, series);
  }

  #range() {
    const { series, seconds, now, most = 0, binary } = this.#given;
    const to = now ?? Date.now() / 1000;
    const from = to - seconds;
    let top = most;
    for (const { points } of series) {
      for (const [at, value] of points) if (at >= from && value > top) top = value;
    }
    return { from, to, most: binary ? 2 ** Math.ceil(Math.log2(top || 1)) : nice(top || 1) };
  }

  #axes(context, css, area) {
    context.fillStyle = css.getPropertyValue("--muted");
    context.strokeStyle = css.getPropertyValue("--line");
    context.lineWidth = 1;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const part of TICKS) {
      const y = Math.round(area.y(area.most * part)) + 0.5;
      stroke(context, area.left, y, area.width - RIGHT, y);
      context.fillText(this.#text(area.most * part), area.left - 6, y);
    }
    context.textBaseline = "top";
    context.textAlign = "center";
    const wanted = Math.max(2, Math.floor((area.width - area.left) / 90));
    const step = STEPS_S.find((each) => this.#given.seconds / each <= wanted) ?? 7200;
    for (let back = 0; back <= this.#given.seconds; back += step) {
      const x = area.x(area.to - back);
      if (x < area.left + 14) break;
      context.textAlign = back === 0 ? "right" : "center";
      context.fillText(back === 0 ? "now" : since(back), back === 0 ? area.width - RIGHT : x,
        area.height - BOTTOM + 7);
    }
  }
}

function stroke(context, x1, y1, x2, y2) {
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
  context.stroke();
}

function line(context, css, area, { points, color }) {
  context.strokeStyle = css.getPropertyValue(color);
  context.lineWidth = 1.75;
  context.lineJoin = "round";
  context.beginPath();
  let drawing = false;
  for (const [at, value] of points) {
    if (value === null || at < area.from) {
      drawing = false;
      continue;
    }
    if (drawing) context.lineTo(area.x(at), area.y(value));
    else context.moveTo(area.x(at), area.y(value));
    drawing = true;
  }
  context.stroke();
}

const since = (seconds) => (seconds < 60 ? `−${seconds} s` : `−${seconds / 60} min`);

/** The next of 1, 2, 4, 10, … above a value. */
export function nice(value) {
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 10].find((each) => each * size >= value) * size;
}

customElements.define("hub-graph", Graph);

/** Makes a graph. */
export function graph(value) {
  const element = document.createElement("hub-graph");
  element.value = value;
  return element;
}

/** What the hub remembers: `{name: [[t, value], …]}` of a node, or of the whole swarm (null). */
export async function remembered(node, signal) {
  const { t, columns } = await api.get("/telemetry/history", { query: { node }, signal })
    .catch(() => ({ t: [], columns: [] }));
  return Object.fromEntries(columns.map(({ name, values }) =>
    [name, values.map((value, index) => [t[index], value])]));
}
