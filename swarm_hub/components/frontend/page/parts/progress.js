/** A bar with what is done, what failed, and how much that is of all. */
import { h, setText } from "../core/dom.js";
import { count } from "../core/format.js";

class Progress extends HTMLElement {
  #done = h("span.progress-done");
  #failed = h("span.progress-failed");
  #text = h("span.progress-text");

  /** `{done, total, failed?, unit?, label?}`; a total of null is one that nobody knows yet. */
  set value({ done, total, failed = 0, unit = "items", label = "Progress" }) {
    if (!this.firstChild) {
      this.append(h("span.progress-bar", this.#done, this.#failed), this.#text);
      this.setAttribute("role", "progressbar");
      this.setAttribute("aria-valuemin", "0");
      this.setAttribute("aria-valuemax", "100");
    }
    const share = total ? Math.min(100, (100 * done) / total) : 0;
    const bad = total ? Math.min(100 - share, (100 * failed) / total) : 0;
    this.#done.style.width = `${share}%`;
    this.#failed.style.width = `${bad}%`;
    const of = total === null || total === undefined ? count(done, unit)
      : `${count(done)} of ${count(total, unit)}`;
    setText(this.#text, failed ? `${of}, ${count(failed)} failed` : of);
    this.setAttribute("aria-label", label);
    this.setAttribute("aria-valuenow", Math.floor(share));
    this.setAttribute("aria-valuetext", this.#text.textContent);
  }
}

customElements.define("hub-progress", Progress);

/** Makes a bar. */
export function progress(value) {
  const element = document.createElement("hub-progress");
  element.value = value;
  return element;
}
