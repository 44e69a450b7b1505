/** One node: what it is, how it was in the last hour, what it does and how it stands. */
import { live } from "../core/connection.js";
import { badge, facts, h, inFrame, link, renew, replace, route, View } from "../core/dom.js";
import { bytes, clock, count, duration, percent, rate, temperature, timeElement } from
  "../core/format.js";
import { jobLink, kindOf, slotWords, store, whyIdle } from "../core/store.js";
import { graph, remembered } from "../parts/graph.js";
import { nodeActions } from "../parts/node_actions.js";
import "../parts/table.js";

const SHARD_EVENTS = ["shard_assigned", "shard_done", "shard_failed"];
// How far back its shards are looked for, in events of the hub.
const BACK = 5000;
const SHARDS_MAX = 1000;
// Jobs whose receipts are offered.
const RECEIPTS_OF = 10;
const HOUR_S = 3600;
const MIB = 1024 ** 2;
const GRAPHS = [
  ["cpu_percent", "CPU", "%", { most: 100, color: "--graph-1" }],
  ["available_memory_bytes", "Free memory", "", { format: bytes, binary: true, color: "--graph-2" }],
  ["battery_percent", "Battery", "%", { most: 100, color: "--graph-2" }],
  ["temperature_c", "Temperature", "°C", { color: "--graph-3" }],
];

class NodeView extends View {
  #head = h("div.head");
  #facts = h("section.card");
  #standing = h("section.card");
  #graphs = h("div.grid");
  #shards = h("hub-table");
  #receipts = h("section.card");
  #byShard = new Map();
  #points = new Map(GRAPHS.map(([name]) => [name, []]));
  #lines = new Map();
  #telemetry = null;
  #node = undefined;

  render() {
    this.#shards.label = "Shards";
    this.#shards.empty = h("p", "It got no shards lately.");
    this.#shards.rowKey = ({ key }) => key;
    this.#shards.columns = [
      { id: "job", title: "Job", head: true, value: ({ job }) => job,
        cell: ({ job }) => jobLink(job) },
      { id: "index", title: "Shard", numeric: true, value: ({ index }) => index },
      { id: "state", title: "State", value: ({ state }) => state,
        cell: ({ state }) => badge(state.replace("shard_", ""), kindOf(state)) },
      { id: "items", title: "Items", numeric: true, value: ({ items }) => items,
        cell: ({ items }) => count(items) },
      { id: "took", title: "Took", numeric: true, value: ({ wall }) => wall,
        cell: ({ wall }) => (wall === null ? "" : duration(wall)) },
      { id: "at", title: "When", value: ({ at }) => at, cell: ({ at }) => timeElement(at, clock) },
      { id: "message", title: "Failure", card: false, value: ({ message }) => message },
    ];
    replace(this, this.#head, h("div.stack", h("div.grid", this.#facts, this.#standing),
      this.#graphs, this.#receipts,
      h("section.card.flush", h("h2.pad", "Its shards"), this.#shards)));
    this.#drawReceipts();
    this.on(store, "jobs", () => this.#drawReceipts());
    const draw = inFrame(() => this.#draw());
    this.on(store, "nodes", (id) => {
      if (id === undefined || id === this.params.id) draw();
    });
    this.#draw();
    remembered(this.params.id, this.signal).then(({ available_memory_mib: free = [], ...before }) => {
      before.available_memory_bytes = free.map(([t, mib]) => [t, mib === null ? null : mib * MIB]);
      for (const [name, points] of this.#points) {
        points.unshift(...(before[name] ?? []).filter(([at]) => !(at >= points[0]?.[0])));
      }
      this.#drawGraphs();
    });
    const follow = () => {
      if (this.#follows || store.health === null) return;
      this.#follows = true;
      this.whenGone(live.subscribe({ event_type: SHARD_EVENTS, node_id: this.params.id,
        since: Math.max(0, store.health.last_seq - BACK) }, (event) => this.#shard(event)));
    };
    this.on(store, "health", follow);
    follow();
  }

  #follows = false;

  #draw() {
    const node = store.nodes.get(this.params.id);
    if (node === this.#node && node !== undefined) return;
    this.#node = node;
    if (node === undefined) {
      replace(this.#head, h("h1", { tabindex: -1 }, "Node"));
      replace(this.#facts, store.known.has("nodes")
        ? h("div.empty", h("strong", "The hub has met no such node"), link("/nodes", "All nodes"))
        : h("p.muted", "…"));
      return;
    }
    const name = node.name || node.node_id;
    document.title = `${name} · nodes`;
    // The buttons stay while nothing about them changes: one may have the focus.
    const marks = `${name} ${node.state} ${node.drain_reason} ${JSON.stringify(node.labels)}`;
    if (this.#head.dataset.marks !== marks) {
      this.#head.dataset.marks = marks;
      replace(this.#head, h("div.row", h("h1", { tabindex: -1 }, name), badge(node.state)),
        h("div.row", nodeActions(node)));
    }
    this.#drawFacts(node);
    this.#drawStanding(node);
    if (node.telemetry !== this.#telemetry) {
      this.#telemetry = node.telemetry;
      const at = Date.now() / 1000;
      for (const [key, points] of this.#points) {
        points.push([at, node.telemetry?.[key] ?? null]);
        if (points.length > 1000) points.shift();
      }
      this.#drawGraphs();
    }
  }

  #drawFacts(node) {
    const { telemetry: now } = node;
    const why = whyIdle(node);
    const labels = Object.entries(node.labels);
    const pairs = [
      ["What it is", `${node.roles.join(" and ") || "not connected"}${
        node.version ? `, swarm_hub ${node.version}` : ""}`],
      ["Slots busy", slotWords(node)],
      ["CPU", `${percent(now?.cpu_percent)}, load ${now?.load_1m?.toFixed(1) ?? "–"}`],
      ["Free memory", bytes(now?.available_memory_bytes)],
      ["Battery", now?.has_battery === false ? "none" : `${percent(now?.battery_percent)}${
        now?.charging ? `, plugged in${now.power_source ? ` (${now.power_source})` : ""}` : ""}`],
      ["Temperature", temperature(now?.temperature_c)],
      ["Network", now?.network ? `${now.network}${now.metered ? ", metered" : ""}` : "–"],
      ["Round trip", node.rtt_ms === null ? "–" : duration(node.rtt_ms / 1000)],
      ["Shards done", `${count(node.shards_done)} since it connected`],
      ["Speed", node.speeds.length ? node.speeds.slice(-3).reverse().map((each) =>
        h("div", `${rate(each.items_per_s, "items")} a slot `,
          h("span.muted.small", `module ${each.module.slice(0, 8)}, ${
            duration(each.shard_s)} a shard`))) : "–"],
      ["Labels", labels.length
        ? h("span.row", labels.map(([key, value]) => h("span.tag", `${key}=${value}`))) : "none"],
    ];
    replace(this.#facts, h("h2", "Now"),
      why && h("p.notice.notice-warn", h("strong", "Takes no work, or less: "), why), facts(pairs));
  }

  #drawStanding(node) {
    const { trust } = node;
    const pairs = [
      ["Trust", trust.trusted ? badge("trusted", "ok") : "not yet proven"],
      ["Its results", `${count(trust.agreements, "agreements")}, ${
        count(trust.contradictions, "contradictions")}`],
      ["Owner", trust.owner ?? "nobody in particular"],
      ["First came", timeElement(node.first_seen)],
      ["Last came", timeElement(node.last_seen)],
      ["Banned", node.state !== "banned" ? null : [node.ban_reason,
        node.ban_until ? [", ends ", timeElement(node.ban_until)] : ", without end"]],
      ["Identity", h("code.any", node.node_id)],
      ["Key", h("code.any", node.kid ?? "–")],
    ];
    replace(this.#standing, h("h2", "Standing"), facts(pairs), node.quarantines.map((each) =>
      h("p.notice.notice-warn", `Kept from module ${each.module.slice(0, 12)} for ${
        duration(each.for_s)}: ${each.reason}`)),
);
  }

  /** Of the jobs that it got shards of, the newest: what it signed, once one looks. */
  #drawReceipts() {
    // Of a shard that several do, one is told of as having done it; all have signed.
    const newest = [...this.#byShard.values()].reverse();
    const jobs = [...new Set(newest.map(({ job }) => job))].slice(0, RECEIPTS_OF);
    const names = jobs.map((job) => store.jobs.get(job)?.name || job);
    if (names.join() === this.#receipts.dataset.names) return;
    this.#receipts.dataset.names = names;
    renew(this.#receipts, h("h2", "Its receipts"), jobs.map((job, index) => {
      const list = h("div");
      const load = async ({ target }) => {
        if (!target.open || list.firstChild) return;
        const { receipts } = await import("../parts/job_sections.js");
        replace(list, await receipts(job, this.params.id));
      };
      return h("details", { dataset: { key: job }, ontoggle: load },
        h("summary", names[index]), list);
    }), !jobs.length && h("p.muted", "None: it got no shards lately."));
  }

  #drawGraphs() {
    for (const [name, title, unit, { color, ...more }] of GRAPHS) {
      const points = this.#points.get(name);
      if (!points.some(([, value]) => value !== null)) continue;
      const value = { title, unit, seconds: HOUR_S, ...more,
        series: [{ label: title, color, points }] };
      if (this.#lines.has(name)) {
        this.#lines.get(name).value = value;
      } else {
        this.#lines.set(name, graph(value));
        this.#graphs.append(h("section.card", this.#lines.get(name)));
      }
    }
  }

  #shard({ event_type: state, time_fired: at, data }) {
    const key = `${data.job_id} ${data.index}`;
    const before = this.#byShard.get(key);
    this.#byShard.delete(key);
    this.#byShard.set(key, { key, job: data.job_id, index: data.index, state, at,
      items: data.n_items ?? before?.items ?? null, wall: data.wall_s ?? null,
      message: data.message ?? null });
    if (this.#byShard.size > SHARDS_MAX) this.#byShard.delete(this.#byShard.keys().next().value);
    this.#showShards();
  }

  #showShards = inFrame(() => {
    this.#shards.rows = [...this.#byShard.values()].reverse();
    this.#drawReceipts();
  });
}

customElements.define("hub-node", NodeView);
route("/nodes/:id", "hub-node", "Node");
