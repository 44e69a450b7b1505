/** A job's result by its kind: a number, a tree of JSON, the head of a text, a picture, an archive. */
import { api, download, errorOf } from "../core/connection.js";
import { attempt } from "../core/dialog.js";
import { h, replace } from "../core/dom.js";
import { bytes, count } from "../core/format.js";
import { button, problem, textBox } from "./job_words.js";
import { hexLines, kindOf, tarEntries, zipEntries } from "./result_kinds.js";

const HEAD_BYTES = 64 * 1024;
const WHOLE_BYTES = 16 * 1024 * 1024;
const TEXT_LINES = 200;
const CHILDREN = 100;

const isPlain = (value) => value === null || typeof value !== "object";

/** A value as a tree that is opened step by step. */
function jsonTree(value, name = null) {
  const label = name === null ? null : h("span.json-name", `${name}: `);
  if (isPlain(value)) return h("div.json-leaf", label, JSON.stringify(value));
  const pairs = Object.entries(value);
  const details = h("details.json", h("summary", label,
    h("span.muted", count(pairs.length, Array.isArray(value) ? "values" : "keys"))));
  details.ontoggle = () => {
    if (details.childElementCount > 1) return;
    details.append(...pairs.slice(0, CHILDREN).map(([key, each]) => jsonTree(each, key)));
    const rest = pairs.length - CHILDREN;
    if (rest > 0) details.append(h("div.muted", `and ${count(rest)} more, in the file`));
  };
  details.open = name === null;
  return details;
}

class ResultView extends HTMLElement {
  #gone = new AbortController();
  #shown = null;
  #url = null;

  /** Shows the result of a job's status. */
  set status(status) {
    const key = `${status.job_id} ${status.state} ${status.finished_at}`;
    if (key === this.#shown) return;
    this.#shown = key;
    this.#show(status).catch((error) => {
      if (error.name !== "AbortError") replace(this, problem(error.message));
    });
  }

  disconnectedCallback() {
    this.#gone.abort();
    if (this.#url !== null) URL.revokeObjectURL(this.#url);
  }

  async #show({ state, job_id: id, name, note, result, result_text: text }) {
    const isPartial = state !== "completed";
    const path = `/jobs/${id}/result${isPartial ? "?partial=true" : ""}`;
    const saved = `${name ?? id}`.replace(/[^\w.-]+/g, "_");
    const shown = isPartial
      ? h("p.muted", `The job ${state}: what was done of it can be saved, if anything was.`)
      : [note && h("p.notice.notice-warn", note),
        result === undefined ? await this.#preview(path)
          : isPlain(result) ? h("p.result-value", text ?? String(result)) : jsonTree(result)];
    replace(this, shown, button("Download", () => attempt(() => download(path, saved))));
  }

  async #bytes(path, most) {
    const response = await api.raw("GET", path,
      { headers: { Range: `bytes=0-${most - 1}` }, signal: this.#gone.signal });
    // An empty result has no range.
    if (response.status === 416) return { head: new Uint8Array(0), size: 0 };
    if (!response.ok) throw await errorOf(response);
    const head = new Uint8Array(await response.arrayBuffer());
    const whole = /\/(\d+)$/.exec(response.headers.get("Content-Range"));
    return { head, size: whole ? Number(whole[1]) : head.length };
  }

  async #preview(path) {
    const { head, size } = await this.#bytes(path, HEAD_BYTES);
    const kind = kindOf(head);
    const facts = h("p.muted", `${bytes(size)}, ${kind === "bytes" ? "binary" : kind}`);
    return [facts, size ? await this.#picture(path, kind, head, size) : h("p", "It is empty.")];
  }

  async #picture(path, kind, head, size) {
    if (kind === "text") {
      const lines = new TextDecoder().decode(head).split("\n");
      const isCut = lines.length > TEXT_LINES || size > head.length;
      return [textBox(lines.slice(0, TEXT_LINES).join("\n")),
        isCut && h("p.muted", "This is its beginning; download it for the rest.")];
    }
    if (kind === "bytes") return textBox(hexLines(head.subarray(0, 256)));
    if (size > WHOLE_BYTES) return h("p.muted", "It is too large to be shown here.");
    const { head: whole } = await this.#bytes(path, WHOLE_BYTES);
    if (kind.startsWith("image/")) {
      this.#url = URL.createObjectURL(new Blob([whole], { type: kind }));
      return h("img.result-image", { src: this.#url, alt: "The result as a picture" });
    }
    const entries = kind === "tar" ? tarEntries(whole) : zipEntries(whole);
    return h("ul.result-entries", { tabindex: 0 }, entries.map((entry) =>
      h("li.row.between", h("span.mono.any", entry.name), h("span.muted", bytes(entry.size)))));
  }
}

customElements.define("hub-result", ResultView);
