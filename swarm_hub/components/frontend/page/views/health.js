/** How the hub itself is: what is wrong, what it runs. */
import { api } from "../core/connection.js";
import { attempt } from "../core/dialog.js";
import { badge, facts, h, replace, route, View } from "../core/dom.js";
import { bytes, count } from "../core/format.js";
import { store } from "../core/store.js";

const BYTES = ["request", "upload_per_owner", "json", "dataset", "module"];

class Health extends View {
  #state = h("section.card", { "aria-live": "polite" });
  #system = h("div.grid");

  render() {
    replace(this, h("div.head", h("h1", { tabindex: -1 }, "Health")),
      h("div.stack", this.#state, this.#system));
    this.on(store, "health", () => this.#drawState());
    this.#drawState();
    store.loadHealth();
    attempt(() => api.get("/system", { signal: this.signal })).then((system) => {
      if (system) this.#drawSystem(system);
    });
  }

  #drawState() {
    const found = store.health;
    if (found === null) return;
    const { ok, problems, disk_full: full, state, last_seq: seq, sandbox, nodes, slots } = found;
    const custom = found.custom_components ?? [];
    const all = [...problems, ...(full ? [`The disk is full: ${full}`] : [])];
    const own = [["State", state], ["Roles", found.roles.join(", ")], ["Newest event", `#${seq}`],
      ["Nodes", nodes === undefined ? null : `${count(nodes, "nodes")}, ${count(slots, "slots")}`],
      ["Waits for a restart", found.needs_restart?.join(", ") || null],
      ["Safe mode", found.safe_mode ? "on: without components of your own" : null],
      ["Of your own", custom.length ? h("span.row", custom.map(({ name, state: is, message }) =>
        badge(message ? `${name}: ${message}` : name, is === "running" ? "ok" : "bad"))) : null]];
    const absent = Object.entries(sandbox?.absent ?? {});
    replace(this.#state,
      h("div.row", h("h2", "The hub"), badge(ok ? "well" : "not well", ok ? "ok" : "bad")),
      all.length > 0 && h("ul.list", all.map((problem) => h("li.notice.notice-bad", problem))),
      facts(own),
      absent.length > 0 && h("div.stack.tight", h("h3", "The kernel does not enforce"),
        facts(absent.map(([name, why]) => [name, String(why)]))));
  }

  #drawSystem({ name, version, versions, platform, components, store: kept, schema, limits }) {
    const limit = ([key, value]) => [key.replaceAll("_", " "), value === null ? "no limit"
      : BYTES.includes(key) ? bytes(value) : count(value)];
    replace(this.#system,
      h("section.card", h("h2", "Components"),
        h("div.row", [...components].sort().map((each) => badge(each, "ok")))),
      h("section.card", h("h2", "What runs here"), facts([["Hub", name], ["Version", version],
        ["Platform", platform], ["Store", `${kept}, schema ${schema}`],
        ...Object.entries(versions)])),
      h("section.card", h("h2", "Limits"), facts(Object.entries(limits).map(limit))));
  }
}

customElements.define("hub-health", Health);
route("/health", "hub-health", "Health");
