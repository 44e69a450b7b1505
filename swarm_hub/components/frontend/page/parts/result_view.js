/** A job's result by its kind: a number, a tree of JSON, the head of a text, a picture, an archive. */
import { api, download, errorOf } from "../core/api.js";
import { h, replace } from "../core/dom.js";
import { bytes, count } from "../core/format.js";
import { attempt } from "../core/dialog.js";
import { hexLines, kindOf, tarEntries, zipEntries } from "./result_kinds.js";

const HEAD_BYTES = 64 * 1024;
const WHOLE_BYTES = 16 * 1024 * 1024;
const TEXT_LINES = 200;
const CHILDREN = 100;

/** A value as a tree that is opened step by step. */
export function jsonTree(value, name = null) {
  const label = name === null ? null : h("span.json-name", `${name}: `);
  if (value === null || typeof value !== "object") {
    return h(
      "div.json-leaf",
      label,
      h("span.json-value", { class: `json-${typeof value}` }, JSON.stringify(value)),
    );
  }
  const isList = Array.isArray(value);
  const size = isList ? value.length : Object.keys(value).length;
  const details = h(
    "details.json",
    h("summary", label, h("span.muted", count(size, isList ? "values" : "keys"))),
  );
  const fill = () => {
    if (!details.open || details.childElementCount > 1) return;
    const pairs = isList
      ? value.slice(0, CHILDREN).map((each, at) => [at, each])
      : Object.entries(value).slice(0, CHILDREN);
    details.append(...pairs.map(([key, each]) => jsonTree(each, key)));
    if (size > CHILDREN)
      details.append(h("div.muted", `and ${count(size - CHILDREN)} more, in the file`));
  };
  details.addEventListener("toggle", fill);
  if (name === null) {
    details.open = true;
    fill();
  }
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
      if (error.name !== "AbortError") replace(this, h("p.notice.notice-bad", error.message));
    });
  }

  disconnectedCallback() {
    this.#gone.abort();
    if (this.#url !== null) URL.revokeObjectURL(this.#url);
  }

  async #show(status) {
    const isPartial = status.state !== "completed";
    const path = `/jobs/${status.job_id}/result${isPartial ? "?partial=true" : ""}`;
    const name = `${status.name ?? status.job_id}`.replace(/[^\w.-]+/g, "_");
    const save = h(
      "button.button",
      { type: "button", onclick: () => attempt(() => download(path, name)) },
      "Download",
    );
    const notes = status.note ? h("p.notice.notice-warn", status.note) : null;
    if (isPartial) {
      replace(
        this,
        h("p.muted", `The job ${status.state}: what was done of it can be saved, if anything was.`),
        save,
      );
      return;
    }
    if (status.result !== undefined) {
      const { result, result_text: text } = status;
      const isPlain = result === null || typeof result !== "object";
      replace(
        this,
        notes,
        isPlain ? h("p.result-value", text ?? String(result)) : jsonTree(result),
        save,
      );
      return;
    }
    const { head, size } = await this.#bytes(path, HEAD_BYTES);
    const kind = kindOf(head);
    const facts = h("p.muted", `${bytes(size)}, ${kind === "bytes" ? "binary" : kind}`);
    replace(this, notes, facts, await this.#preview(path, kind, head, size), save);
  }

  async #bytes(path, most) {
    const response = await api.raw("GET", path, {
      headers: { Range: `bytes=0-${most - 1}` },
      signal: this.#gone.signal,
    });
    // An empty result has no range.
    if (response.status === 416) return { head: new Uint8Array(0), size: 0 };
    if (!response.ok) throw await errorOf(response);
    const head = new Uint8Array(await response.arrayBuffer());
    const whole = /\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "");
    return { head, size: whole ? Number(whole[1]) : head.length };
  }

  async #preview(path, kind, head, size) {
    if (size === 0) return h("p", "It is empty.");
    if (kind === "text") {
      const lines = new TextDecoder().decode(head).split("\n");
      const shown = lines.slice(0, TEXT_LINES).join("\n");
      const isCut = lines.length > TEXT_LINES || size > head.length;
      return [
        h("pre.result-text", { tabindex: 0 }, shown),
        isCut && h("p.muted", "This is its beginning; download it for the rest."),
      ];
    }
    if (kind === "bytes")
      return h("pre.result-text", { tabindex: 0 }, hexLines(head.subarray(0, 256)));
    if (size > WHOLE_BYTES) return h("p.muted", "It is too large to be shown here.");
    const { head: whole } = await this.#bytes(path, WHOLE_BYTES);
    if (kind.startsWith("image/")) {
      this.#url = URL.createObjectURL(new Blob([whole], { type: kind }));
      return h("img.result-image", { src: this.#url, alt: "The result as a picture" });
    }
    const entries = kind === "tar" ? tarEntries(whole) : zipEntries(whole);
    return h(
      "ul.result-entries",
      { tabindex: 0 },
      entries.map((entry) =>
        h("li.row.between", h("span.mono.any", entry.name), h("span.muted", bytes(entry.size))),
      ),
    );
  }
}

customElements.define("hub-result", ResultView);
