/** What the job views share: their style, labels as people type them, buttons and columns. */
import { h } from "../core/dom.js";

let style = null;

/** Has the style of the job views loaded, once. */
export function stylesheet() {
  if (style) return;
  style = h("link", { rel: "stylesheet", href: new URL("../style/jobs.css", import.meta.url) });
  document.head.append(style);
}

/** Labels as people type them. */
export const labelsText = (labels) =>
  Object.entries(labels).map(([name, value]) => `${name}=${value}`).join(", ");

/** Labels to look at. */
export const tags = (labels) =>
  Object.entries(labels).map(([name, value]) => [h("span.tag", `${name}: ${value}`), " "]);

/** An Idempotency-Key: a submission that is sent twice is one. */
export const newKey = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

/** A button that submits nothing; `kind` are more of its classes, as ".button-danger". */
export const button = (text, onclick, kind = "") =>
  h(`button.button${kind}`, { type: "button", onclick }, text);

/** What went wrong. */
export const problem = (text) => h("p.notice.notice-bad", text);

/** Items by the number of the first and how many there are. */
export const items = (first, n) => (n === 1 ? `item ${first}` : `items ${first} to ${first + n - 1}`);

/** A text to read in full, in a box that is walked with the keyboard. */
export const textBox = (text) => h("pre.result-text", { tabindex: 0 }, text);

/** A column that shows the value with its name; `cell(value, row)` shows it otherwise. */
export function column(id, title, { cell, ...more } = {}) {
  const shown = cell && { cell: (row) => cell(row[id], row) };
  return { id, title, value: (row) => row[id], ...shown, ...more };
}

/** Returns a function that has `work` done once in so many ms, if the view is still there then. */
export function soon(view, ms, work) {
  let timer = null;
  return () => {
    timer ??= setTimeout(() => {
      timer = null;
      if (view.isConnected) work();
    }, ms);
  };
}
