/**
 * A job's attempts over time, live or as they were: zoomed, moved and replayed by pointer and keys,
 * with the same as a table for who can't see a picture.
 */
import { h, inFrame, replace, setText } from "../core/dom.js";
import { duration } from "../core/format.js";
import { AXIS_HEIGHT, colorsOf, draw } from "./task_canvas.js";
import { addGestures } from "./task_gestures.js";
import { attemptRows, attemptsTable, KEYS, legend, told } from "./task_words.js";

const HEIGHT_MAX = 400;
const ROW_MIN = 6;
const ROW_MAX = 20;
const NARROW = 480;
const LABEL_PX = 110;
const SPAN_MIN_MS = 4;
const LIVE_EVERY_MS = 250;
const WORDS_EVERY_MS = 100;
const TABLE_EVERY_MS = 1000;
const SLIDER = 1000;
const STEP_MS = 500;
const ZOOM = 1.6;
const ARROW_PX = 40;
const SPEEDS = [[10, "in 10 s"], [30, "in 30 s"], [0, "as it was"]];
const between = (low, value, high) => Math.max(low, Math.min(value, high));

class TaskStream extends HTMLElement {
  /** How often it was drawn. */
  nDrawn = 0;
  #model = null;
  #nameOf = (id) => id;
  #isLive = false;
  #from = 0;
  #to = 1;
  #isWhole = true;
  #isAtEnd = true;
  #time = null;
  #scroll = 0;
  #row = ROW_MAX;
  #size = { width: 0, left: 0, height: 0 };
  #behind = Infinity;
  #playedAt = null;
  #wordsAt = 0;
  #leave = null;
  #colors = null;
  #tip = h("div.task-tip", { hidden: true });
  #picked = -1;
  #canvas = h("canvas.task-canvas", { tabindex: 0, role: "application",
    "aria-roledescription": "task stream", "aria-label": "Attempts over time",
    "aria-describedby": "task-keys" });
  #play = h("button.button", { type: "button", onclick: () => this.toggle() }, "Replay");
  #slider = h("input.task-slider", { type: "range", max: SLIDER, value: SLIDER,
    "aria-label": "Time of the replay", oninput: ({ target }) => this.#slide(target.value) });
  #clock = h("output.task-clock");
  #speed = h("select", { "aria-label": "How fast to replay" },
    SPEEDS.map(([value, text]) => h("option", { value }, text)));
  #said = h("p.visually-hidden", { role: "status" });
  #details = h("details.task-table", { ontoggle: () => this.#fillTable() },
    h("summary", "Attempts as a table"));
  #table = null;
  #drawSoon = inFrame(() => this.#draw());

  set model(model) {
    this.#model = model;
    this.#drawSoon();
  }

  /** What a node is called. */
  set nameOf(nameOf) {
    this.#nameOf = nameOf;
    this.#drawSoon();
  }

  set isLive(isLive) {
    this.#isLive = isLive;
    this.#drawSoon();
  }

  /** The moment that is shown, in ms; null for the newest. */
  get time() {
    return this.#time;
  }

  /** Says that the model has changed. */
  changed() {
    if (this.#isLive) this.#behind = Math.min(this.#behind, Date.now() - this.#model.newest);
    this.#drawSoon();
  }

  connectedCallback() {
    if (!this.firstChild) this.#build();
    const gone = new AbortController();
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", () => {
      this.#colors = null;
      this.#drawSoon();
    }, { signal: gone.signal });
    const resized = new ResizeObserver(this.#drawSoon);
    resized.observe(this.#canvas.parentElement);
    const timers = [
      setInterval(() => this.#isLive && this.#time === null && this.#drawSoon(), LIVE_EVERY_MS),
      setInterval(() => this.#isLive && this.#fillTable(), TABLE_EVERY_MS),
    ];
    this.#leave = () => {
      gone.abort();
      resized.disconnect();
      timers.forEach(clearInterval);
    };
  }

  disconnectedCallback() {
    this.#playedAt = null;
    this.#leave();
  }

  #build() {
    const button = (text, label, onclick) =>
      h("button.button", { type: "button", "aria-label": label, title: label, onclick }, text);
    this.append(
      h("div.task-bar",
        h("div.task-replay", this.#play, this.#slider, this.#clock, this.#speed),
        h("div.task-zoom",
          button("−", "Zoom out", () => this.#zoom(ZOOM)),
          button("+", "Zoom in", () => this.#zoom(1 / ZOOM)),
          button("All", "Show all", () => this.#whole()))),
      h("div.task-frame", this.#canvas, this.#tip),
      legend(),
      h("p.muted.task-keys", { id: "task-keys" }, KEYS),
      this.#said,
      this.#details,
    );
    const step = (share) => () => this.#pan(share * this.#span);
    const zoomIn = () => this.#zoom(1 / ZOOM);
    addGestures(this.#canvas, {
      zoom: (factor, x) => this.#zoom(factor, this.#atX(x)),
      pan: (pixels) => this.#pan((pixels * this.#span) / this.#size.width),
      scroll: (pixels) => this.#scrollBy(pixels),
      hover: (x, y) => this.#show(x === null ? -1 : this.#attemptAt(x, y), x, y),
      keys: {
        "+": zoomIn,
        "=": zoomIn,
        "-": () => this.#zoom(ZOOM),
        0: () => this.#whole(),
        Home: step(-Infinity),
        End: step(Infinity),
        ArrowLeft: step(-1 / 8),
        ArrowRight: step(1 / 8),
        ArrowUp: () => this.#scrollBy(-ARROW_PX),
        ArrowDown: () => this.#scrollBy(ARROW_PX),
        " ": () => this.toggle(),
        ".": () => this.#step(1),
        ",": () => this.#step(-1),
        Escape: () => this.#show(-1),
      },
    });
  }

  get #span() {
    return this.#to - this.#from;
  }

  /** Replays from where it stands, or stops that. */
  toggle() {
    if (this.#playedAt !== null) {
      this.#playedAt = null;
      setText(this.#play, "Replay");
      return;
    }
    if (this.#time === null) this.#setTime(this.#model.start);
    setText(this.#play, "Pause");
    this.#playedAt = performance.now();
    const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const again = () => (isCalm ? setTimeout(step, STEP_MS) : requestAnimationFrame(step));
    const step = () => {
      if (this.#playedAt === null || !this.isConnected) return;
      const now = performance.now();
      const whole = this.#end() - this.#model.start;
      const faster = Number(this.#speed.value) ? whole / (1000 * Number(this.#speed.value)) : 1;
      this.#setTime(this.#time + (now - this.#playedAt) * faster);
      this.#playedAt = now;
      if (this.#time === null) this.toggle();
      else again();
    };
    again();
  }

  #end() {
    const { newest } = this.#model;
    return this.#isLive ? Math.max(newest, Date.now() - this.#behind) : newest;
  }

  #slide(value) {
    const { start } = this.#model;
    this.#setTime(value < SLIDER ? start + ((this.#end() - start) * value) / SLIDER : Infinity);
  }

  #setTime(time) {
    this.#time = time >= this.#end() ? null : time;
    this.#drawSoon();
  }

  #whole() {
    this.#isWhole = true;
    this.#drawSoon();
  }

  #zoom(factor, at = null) {
    const end = this.#end();
    const wanted = Math.max(SPAN_MIN_MS, this.#span * factor);
    if (wanted >= end - this.#model.start) {
      this.#whole();
    } else if (at === null && this.#isLive && (this.#isWhole || this.#isAtEnd)) {
      // What runs stays in sight.
      this.#look(end - wanted, wanted);
    } else {
      const middle = at ?? (this.#from + this.#to) / 2;
      this.#look(middle - ((middle - this.#from) / this.#span) * wanted, wanted);
    }
  }

  #look(from, span) {
    const end = this.#end();
    this.#isWhole = false;
    this.#from = Math.max(this.#model.start, Math.min(from, end - span));
    this.#to = this.#from + span;
    this.#isAtEnd = this.#to >= end - 1;
    this.#drawSoon();
  }

  #pan(ms) {
    if (!this.#isWhole) this.#look(this.#from + ms, this.#span);
  }

  #scrollBy(pixels) {
    const most = Math.max(0, this.#model.lanes().nLanes * this.#row - this.#size.height);
    const before = this.#scroll;
    this.#scroll = between(0, before + pixels, most);
    if (this.#scroll !== before) this.#drawSoon();
    return this.#scroll !== before;
  }

  #atX(x) {
    const { left, width } = this.#size;
    return this.#from + ((x - left) / width) * this.#span;
  }

  #attemptAt(x, y) {
    if (this.#model === null || x < this.#size.left || y < AXIS_HEIGHT) return -1;
    const { offsets, order } = this.#model.lanes();
    const { from, to, offered, node, lane } = this.#model.columns;
    const wanted = Math.floor((y - AXIS_HEIGHT + this.#scroll) / this.#row);
    const time = this.#time ?? Infinity;
    const at = this.#atX(x);
    let found = -1;
    let off = (2 * this.#span) / this.#size.width;
    for (const row of order) {
      if (offsets[node[row]] + lane[row] !== wanted || offered[row] > time) continue;
      const away = Math.max(0, from[row] - at, at - to[row]);
      if (away <= off) [found, off] = [row, away];
    }
    return found;
  }

  #step(by) {
    const { order, offsets } = this.#model.lanes();
    if (!order.length) return;
    const at = order.indexOf(this.#picked);
    const row = order[at < 0 && by < 0 ? order.length - 1 : between(0, at + by, order.length - 1)];
    const { from, to, node, lane } = this.#model.columns;
    const middle = (from[row] + Math.min(to[row], this.#end())) / 2;
    if (middle < this.#from || middle > this.#to) this.#look(middle - this.#span / 2, this.#span);
    const { left, width, height } = this.#size;
    const y = (offsets[node[row]] + lane[row] + 0.5) * this.#row;
    if (y < this.#scroll || y > this.#scroll + height) this.#scrollBy(y - this.#scroll - height / 2);
    const x = left + ((middle - this.#from) / this.#span) * width;
    this.#show(row, x, AXIS_HEIGHT + y - this.#scroll);
    setText(this.#said, [...this.#tip.children].map((line) => line.textContent).join(", "));
  }

  #show(row, x = 0, y = 0) {
    this.#picked = row;
    this.#tip.hidden = row < 0;
    if (row < 0) return;
    replace(this.#tip, told(this.#model, row, this.#time, this.#nameOf)
      .map((line, at) => h(at ? "div" : "strong", line)));
    const room = this.#size.left + this.#size.width - this.#tip.offsetWidth;
    this.#tip.style.left = `${Math.max(0, Math.min(x + 12, room))}px`;
    this.#tip.style.top = `${y + 16}px`;
  }

  #draw() {
    if (this.#model === null || !this.isConnected) return;
    const canvas = this.#canvas;
    const whole = canvas.parentElement.clientWidth;
    const { nLanes } = this.#model.lanes();
    const { start } = this.#model;
    const end = this.#end();
    this.hidden = nLanes === 0;
    if (nLanes === 0 || whole === 0) return;
    if (this.#isWhole) [this.#from, this.#to] = [start, Math.max(end, start + SPAN_MIN_MS)];
    else if (this.#isAtEnd && this.#isLive) [this.#from, this.#to] = [end - this.#span, end];
    const left = whole < NARROW ? Math.min(64, whole / 5) : LABEL_PX;
    this.#row = between(ROW_MIN, Math.floor(HEIGHT_MAX / nLanes), ROW_MAX);
    const height = Math.min(HEIGHT_MAX, nLanes * this.#row);
    this.#scroll = Math.min(this.#scroll, nLanes * this.#row - height);
    this.#size = { left, width: whole - left, height };
    const ratio = devicePixelRatio;
    const [wide, high] = [Math.round(whole * ratio), Math.round((height + AXIS_HEIGHT) * ratio)];
    if (canvas.width !== wide || canvas.height !== high) {
      canvas.width = wide;
      canvas.height = high;
      canvas.style.height = `${height + AXIS_HEIGHT}px`;
      this.#colors = null;
    }
    const context = canvas.getContext("2d");
    this.#colors ??= colorsOf(this, context);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const time = Math.min(this.#time ?? end, end);
    draw(context, this.#model, { ...this.#size, from: this.#from, to: this.#to, time,
      row: this.#row, scroll: this.#scroll }, this.#colors, this.#model.nodes.map(this.#nameOf));
    this.nDrawn += 1;
    // Words cost a layout, a picture does not: they follow less often.
    const now = performance.now();
    if (this.#wordsAt > now - WORDS_EVERY_MS && this.#playedAt !== null) return;
    this.#wordsAt = now;
    if (document.activeElement !== this.#slider || this.#playedAt !== null)
      this.#slider.value = Math.round(((time - start) / Math.max(1, end - start)) * SLIDER);
    const words = `${duration((time - start) / 1000)} of ${duration((end - start) / 1000)}`;
    setText(this.#clock, words);
    this.#slider.setAttribute("aria-valuetext", words);
    this.dispatchEvent(new CustomEvent("time"));
  }

  #fillTable() {
    if (!this.#details.open || this.#model === null) return;
    if (this.#table === null) this.#details.append(this.#table = attemptsTable());
    this.#table.rows = attemptRows(this.#model, this.#end(), this.#nameOf);
  }
}

customElements.define("hub-task-stream", TaskStream);
