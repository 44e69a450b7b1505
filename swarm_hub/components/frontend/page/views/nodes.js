/** Every node that the hub has met. */
import { address, badge, h, inFrame, link, query, replace, route, setQuery, setText, View } from
  "../core/dom.js";
import { bytes, count, duration, percent, rate, temperature, timeElement, UNKNOWN } from
  "../core/format.js";
import { busySlots, slotWords, store, whyIdle } from "../core/store.js";
import { noNodes } from "../parts/no_nodes.js";
import "../parts/table.js";

const STATES = ["up", "draining", "drained", "pending", "down", "banned"];

const of = (name) => (node) => node.telemetry?.[name] ?? null;
const addressOf = (node) => address(`/nodes/${encodeURIComponent(node.node_id)}`);

const COLUMNS = [
  { id: "name", always: true, title: "Name", head: true, value: (node) => node.name || node.node_id,
    cell: (node) => link(addressOf(node).slice(1), node.name || node.node_id) },
  { id: "state", always: true, title: "State", value: (node) => node.state, cell: (node) => badge(node.state) },
  { id: "busy", title: "Slots busy", numeric: true, value: busySlots, cell: slotWords,
    always: true },
  { id: "why", title: "Takes no work because", card: false, value: whyIdle },
  { id: "roles", title: "Roles", card: false, value: (node) => node.roles.join(", ") || null },
  { id: "version", title: "Version", card: false, value: (node) => node.version },
  { id: "cpu", title: "CPU", numeric: true, value: of("cpu_percent"),
    cell: (node) => percent(of("cpu_percent")(node)) },
  { id: "memory", title: "Free memory", numeric: true, value: of("available_memory_bytes"),
    cell: (node) => bytes(of("available_memory_bytes")(node)) },
  { id: "battery", title: "Battery", numeric: true, value: of("battery_percent"), cell: battery },
  { id: "temperature", title: "Temperature", numeric: true, value: of("temperature_c"),
    cell: (node) => temperature(of("temperature_c")(node)) },
  { id: "network", title: "Network", card: false, value: network },
  { id: "rtt", title: "Round trip", numeric: true, value: (node) => node.rtt_ms,
    cell: (node) => (node.rtt_ms === null ? UNKNOWN : duration(node.rtt_ms / 1000)) },
  { id: "speed", title: "Speed", numeric: true, card: false,
    value: (node) => node.speeds.at(-1)?.items_per_s, cell: speed },
  { id: "done", title: "Shards done", numeric: true, card: false,
    value: (node) => node.shards_done || null, cell: (node) => count(node.shards_done) },
  { id: "trust", title: "Trust", card: false, value: trust },
  { id: "owner", title: "Owner", card: false, value: (node) => node.trust.owner },
  { id: "seen", title: "Last came", card: false, value: (node) => node.last_seen,
    cell: (node) => timeElement(node.last_seen) },
  { id: "labels", title: "Labels", card: false, value: labels },
];

function battery(node) {
  const { battery_percent: charge, charging } = node.telemetry ?? {};
  if (charge === null || charge === undefined) return UNKNOWN;
  return `${percent(charge)}${charging ? ", plugged in" : ""}`;
}

/** Of the module that it ran last, on one slot. */
function speed(node) {
  return node.speeds.length ? rate(node.speeds.at(-1).items_per_s, "items") : UNKNOWN;
}

function network(node) {
  const { network: kind, metered } = node.telemetry ?? {};
  return kind ? `${kind}${metered ? ", metered" : ""}` : null;
}

function trust({ trust: { trusted, agreements, contradictions } }) {
  if (trusted) return "trusted";
  if (contradictions) return `${count(contradictions, "contradictions")}`;
  return agreements ? count(agreements, "agreements") : null;
}

function labels(node) {
  const pairs = Object.entries(node.labels).map(([name, value]) => `${name}=${value}`);
  return pairs.join(" ") || null;
}

class Nodes extends View {
  render() {
    const asked = query();
    const table = h("hub-table");
    const summary = h("span.muted", { role: "status" });
    const search = h("input.search", { type: "search", placeholder: "Filter by any text",
      "aria-label": "Filter nodes", value: asked.text ?? "" });
    const states = h("select", { "aria-label": "State" }, h("option", { value: "" }, "every state"),
      STATES.map((state) => h("option", { value: state, selected: asked.state === state }, state)));
    replace(this, h("div.head", h("h1", { tabindex: -1 }, "Nodes"),
      h("a.button", { href: address("/invite") }, "Invite a node")),
      h("div.toolbar", search, states, summary), h("div.card.flush", table));
    table.rowKey = (node) => node.node_id;
    table.href = addressOf;
    table.label = "Nodes";
    table.sort = asked.sort ? { column: asked.sort, descending: asked.down === "1" } : null;
    table.filter = search.value;
    table.empty = h("p", "…");
    // What no node tells has no column.
    let shown = null;
    let empty = null;
    const show = inFrame(() => {
      const all = [...store.nodes.values()];
      const rows = states.value ? all.filter(({ state }) => state === states.value) : all;
      if (store.known.has("nodes") && all.length === 0) table.empty = empty ??= noNodes();
      const told = COLUMNS.filter(({ always, value }) => always ||
        all.some((node) => ![null, undefined, ""].includes(value(node))));
      const names = told.map(({ id }) => id).join();
      if (names !== shown) table.columns = told;
      shown = names;
      table.rows = rows;
      setText(summary, rows.length === all.length ? count(all.length, "nodes")
        : `${count(rows.length)} of ${count(all.length, "nodes")}`);
    });
    this.on(search, "input", () => {
      table.filter = search.value;
      setQuery({ text: search.value });
    });
    this.on(states, "change", () => {
      setQuery({ state: states.value });
      show();
    });
    this.on(table, "sort", () => {
      const { column, descending } = table.sort;
      setQuery({ sort: column, down: descending ? "1" : null });
    });
    this.on(store, "nodes", show);
    this.every(15, () => table.redraw());
    show();
  }
}

customElements.define("hub-nodes", Nodes);
route("/nodes", "hub-nodes", "Nodes");
