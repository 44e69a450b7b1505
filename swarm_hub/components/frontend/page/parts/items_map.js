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
  #theme = matchMedia("(prefers-color-scheme: dark)");
  #drawSoon = inFrame(() => this.#draw());

  /** Shows the items of a model, of so many in all, as they were at a time in ms or, with null, now. */
  show(model, nItems, time) {
    this.#model = model;
    this.#nItems = nItems;
    this.#time = time ?? Number.MAX_VALUE;
    this.#drawSoon();
  }

  connectedCallback() {
    this.append(this.#canvas, this.#text);
    this.#sized = new ResizeObserver(this.#drawSoon);
    this.#sized.observe(this);
    this.#theme.addEventListener("change", this.#drawSoon);
  }

  disconnectedCallback() {
    this.#sized.disconnect();
    this.#theme.removeEventListener("change", this.#drawSoon);
  }

  #draw() {
    const width = this.clientWidth;
    const nItems = this.#nItems;
    if (!(nItems > 0) || width === 0) return;
    const columns = Math.max(8, Math.floor(width / CELL_PX));
    const nCells = Math.min(nItems, columns * ROWS);
    const side = nCells < columns ? Math.min(24, Math.floor(width / nCells)) : width / columns;
    const height = Math.ceil(nCells / columns) * side;
    const ratio = devicePixelRatio;
    this.#canvas.width = Math.round(width * ratio);
    this.#canvas.height = Math.round(height * ratio);
    this.#canvas.style.height = `${height}px`;
    const context = this.#canvas.getContext("2d");
    context.scale(ratio, ratio);
    const style = getComputedStyle(this);
    const [pool, live, done, failed, ink] = ["pool", "live", "done", "failed", "ink"]
      .map((name) => style.getPropertyValue(`--task-${name}`).trim());
    context.strokeStyle = ink;
    const cells = this.#model.cellsAt(this.#time, nItems, nCells);
    const size = side - GAP;
    for (let cell = 0; cell < nCells; cell += 1) {
      const x = (cell % columns) * side;
      const y = Math.floor(cell / columns) * side;
      const rect = (color, from, high) => {
        context.fillStyle = color;
        context.fillRect(x, y + from, size, high);
      };
      rect(pool, 0, size);
      const ready = Math.min(1, cells.done[cell]);
      // From below, as a glass is filled: shown by its height, not by its colour alone.
      rect(done, size * (1 - ready), size * ready);
      if (cells.live[cell] > 0) {
        rect(live, 0, Math.max(2, size * Math.min(1 - ready, cells.live[cell])));
      }
      if (cells.failed[cell] > 0) {
        rect(failed, 0, size);
        context.beginPath();
        context.moveTo(x + 1, y + 1);
        context.lineTo(x + size - 1, y + size - 1);
        context.moveTo(x + size - 1, y + 1);
        context.lineTo(x + 1, y + size - 1);
        context.stroke();
      }
    }
    const { itemsDone, live: running, itemsFailed: bad } = this.#model.countsAt(this.#time);
    setText(this.#text, `${count(itemsDone)} of ${count(nItems, "items")} done ` +
      `(${percent((100 * itemsDone) / nItems)}), ${count(running, "shards")} running` +
      (bad ? `, ${count(bad, "items")} failed` : ""));
    this.#canvas.setAttribute("aria-label", `Items: ${this.#text.textContent}`);
  }
}

customElements.define("hub-items-map", ItemsMap);
