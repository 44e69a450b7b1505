/** All items of a job in a field of cells, in order: not given out, running, done or failed. */
import { h, inFrame, setText } from "../core/dom.js";
import { count, percent } from "../core/format.js";

const CELL_PX = 8;
const ROWS = 8;
const GAP = 1;

class ItemsMap extends HTMLElement {
  #model = null;
  #nItems = 0;
  #time = null;
  #canvas = h("canvas.items-canvas", { role: "img" });
  #text = h("p.muted.items-text");
  #sized = null;
  #theme = null;
  #drawSoon = inFrame(() => this.#draw());

  /** Shows the items of a model, of so many in all, as they were at a time in ms or, with null, now. */
  show(model, nItems, time) {
    this.#model = model;
    this.#nItems = nItems;
    this.#time = time;
    this.#drawSoon();
  }

  connectedCallback() {
    if (!this.firstChild) this.append(this.#canvas, this.#text);
    this.#sized = new ResizeObserver(() => this.#drawSoon());
    this.#sized.observe(this);
    this.#theme = matchMedia("(prefers-color-scheme: dark)");
    this.#theme.addEventListener("change", this.#drawSoon);
  }

  disconnectedCallback() {
    this.#sized.disconnect();
    this.#theme.removeEventListener("change", this.#drawSoon);
  }

  #draw() {
    const width = this.clientWidth;
    if (this.#model === null || !(this.#nItems > 0) || width === 0) return;
    const columns = Math.max(8, Math.floor(width / CELL_PX));
    const nCells = Math.min(this.#nItems, columns * ROWS);
    const rows = Math.ceil(nCells / columns);
    const side = nCells < columns ? Math.min(24, Math.floor(width / nCells)) : width / columns;
    const ratio = devicePixelRatio || 1;
    this.#canvas.width = Math.round(width * ratio);
    this.#canvas.height = Math.round(rows * side * ratio);
    this.#canvas.style.height = `${rows * side}px`;
    const context = this.#canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const style = getComputedStyle(this);
    const [pool, live, done, failed, ink] = [
      "--task-pool",
      "--task-live",
      "--task-done",
      "--task-failed",
      "--task-ink",
    ].map((name) => style.getPropertyValue(name).trim());
    const time = this.#time ?? Number.MAX_VALUE;
    const cells = this.#model.cellsAt(time, this.#nItems, nCells);
    for (let cell = 0; cell < nCells; cell += 1) {
      const x = (cell % columns) * side;
      const y = Math.floor(cell / columns) * side;
      const size = side - GAP;
      context.fillStyle = pool;
      context.fillRect(x, y, size, size);
      const ready = Math.min(1, cells.done[cell]);
      // From below, as a glass is filled: shown by its height, not by its colour alone.
      context.fillStyle = done;
      context.fillRect(x, y + size * (1 - ready), size, size * ready);
      if (cells.live[cell] > 0) {
        context.fillStyle = live;
        context.fillRect(x, y, size, Math.max(2, size * Math.min(1 - ready, cells.live[cell])));
      }
      if (cells.failed[cell] > 0) {
        context.fillStyle = failed;
        context.fillRect(x, y, size, size);
        context.strokeStyle = ink;
        context.beginPath();
        context.moveTo(x + 1, y + 1);
        context.lineTo(x + size - 1, y + size - 1);
        context.moveTo(x + size - 1, y + 1);
        context.lineTo(x + 1, y + size - 1);
        context.stroke();
      }
    }
    const told = this.#model.countsAt(time);
    const text =
      `${count(told.itemsDone)} of ${count(this.#nItems, "items")} done (${percent((100 * told.itemsDone) / this.#nItems)})` +
      `, ${count(told.live, "shards")} running${told.itemsFailed ? `, ${count(told.itemsFailed, "items")} failed` : ""}`;
    setText(this.#text, text);
    this.#canvas.setAttribute("aria-label", `Items: ${text}`);
  }
}

customElements.define("hub-items-map", ItemsMap);
