/** Words that the job views share: labels as people type them, and the style of these views. */
import { h } from "../core/dom.js";

const MARK = "hub-jobs-style";

/** Labels as people type them. */
export function labelsText(labels) {
  return Object.entries(labels ?? {})
    .map(([name, value]) => `${name}=${value}`)
    .join(", ");
}

/** Has the style of the job views loaded, once. */
export function stylesheet() {
  if (document.getElementById(MARK)) return;
  const href = new URL("../style/jobs.css", import.meta.url).href;
  document.head.append(h("link", { id: MARK, rel: "stylesheet", href }));
}

/** An Idempotency-Key: a submission that is sent twice is one. */
export function newKey() {
  return crypto.getRandomValues(new Uint32Array(4)).join("-");
}

/** A column that shows the value with its name; `cell(value, row)` shows it otherwise. */
export function column(id, title, { cell, ...more } = {}) {
  const shown = cell && { cell: (row) => cell(row[id], row) };
  return { id, title, value: (row) => row[id], ...shown, ...more };
}
