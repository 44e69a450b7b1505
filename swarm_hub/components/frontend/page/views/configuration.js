/** The configuration in force: each value and where it is from; checking the files, and reloading. */
import { api } from "../core/connection.js";
import { attempt, toast } from "../core/dialog.js";
import { badge, h, replace, route, View } from "../core/dom.js";
import { count } from "../core/format.js";
import "../parts/table.js";

const words = (value) => (value === null ? "not set" : JSON.stringify(value));

class Configuration extends View {
  #said = h("div", { "aria-live": "polite" });
  #waiting = h("div", { "aria-live": "polite" });
  #table = h("hub-table");

  render() {
    const search = h("input", { type: "search", "aria-label": "Search keys and values",
      placeholder: "Search keys and values", oninput: () => { this.#table.filter = search.value; } });
    replace(this, h("div.head", h("h1", { tabindex: -1 }, "Configuration"), h("div.row",
      h("button.button", { onclick: () => this.#check() }, "Check the files"),
      h("button.button.button-primary", { onclick: () => this.#reload() }, "Reload"))),
    h("div.stack", this.#said, this.#waiting,
      h("div.toolbar", search),
      h("section.card.flush", { "aria-label": "Values in force" }, this.#table)));
    const table = this.#table;
    table.label = "Values in force";
    table.rowKey = ({ path }) => path;
    table.empty = h("p", "No key has that in it; search for something else.");
    table.columns = [
      { id: "key", title: "Key", head: true, value: ({ path }) => path,
        cell: ({ path }) => h("code", path) },
      { id: "value", title: "Value", value: ({ value }) => words(value),
        cell: ({ value, written }) => h("span", h("code", words(value)),
          words(written) !== words(value) && h("span.muted", ` written ${words(written)}`)) },
      { id: "from", title: "From",
        value: ({ file, line }) => (file === null ? "default" : `${file}:${line}`) },
      { id: "taken", title: "Takes effect", value: ({ reloadable }) => String(reloadable),
        cell: ({ reloadable }) => badge(reloadable ? "reload" : "restart",
          reloadable ? "ok" : "") },
    ];
    this.#load();
  }

  async #load() {
    const found = await attempt(() => api.get("/config", { signal: this.signal }));
    if (!found) return;
    this.#table.rows = found.values;
    const { needs_restart: waiting } = found;
    replace(this.#waiting, waiting.length > 0 && h("div.notice.notice-warn",
      `These keys wait for a restart of the hub: ${waiting.join(", ")}`));
  }

  #problems(title, problems) {
    replace(this.#said, h("section.card.stack", h("h2", title),
      problems.map((text) => h("div.notice.notice-bad", text)),
      h("p.muted", "Correct the file on the device, then check it again.")));
  }

  async #check() {
    const found = await attempt(() => api.post("/config/check"));
    if (!found) return;
    if (found.valid) {
      replace(this.#said, h("div.notice", "The files are valid; Reload takes them."));
      return;
    }
    const shown = found.problems.map(({ file, line, path, message }) =>
      [line === null ? file : `${file}:${line}`, path, message].filter(Boolean).join(": "));
    this.#problems(count(shown.length, "problems"), shown);
  }

  async #reload() {
    let done;
    try {
      done = await api.post("/config/reload");
    } catch (error) {
      if (error.code === "invalid_configuration") {
        this.#problems("Nothing was changed", error.errors.map(({ message }) => message));
      } else {
        toast(error.message, "bad");
      }
      return;
    }
    replace(this.#said, h("section.card.stack", h("h2", "Reloaded"), done.applied.length === 0
      ? h("p", "Every key that needs no restart is as it was.")
      : h("ul.list", done.applied.map((each) => h("li", h("code", each.path), ": ",
        `${words(each.old)} → ${words(each.new)}`)))));
    await this.#load();
  }
}

customElements.define("hub-configuration", Configuration);
route("/configuration", "hub-configuration", "Configuration");
