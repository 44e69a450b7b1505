/** The nodes and the newest jobs, kept true by events, and how people read them and the events. */
import { api, Emitter, live } from "./connection.js";
import { link } from "./dom.js";
import { count, duration, shortId } from "./format.js";

const NODE_EVENTS = ["node_up", "node_down", "node_banned", "node_unbanned", "node_drained",
  "node_undrained", "node_labelled", "network_banned", "network_unbanned"];
const JOB_EVENTS = ["job_queued", "job_running", "job_changed", "job_completed", "job_failed",
  "job_cancelled", "job_pruned"];
const JOBS_MAX = 100;
const SOON_MS = 300;
// What no event tells, such as how many shards a node has, is asked for again so often.
const BUSY_MS = 5000;
const IDLE_MS = 30_000;
const HISTORY_EVERY_MS = 2000;
const HISTORY_MAX = 300;
const LOSSES_BACK = 5000;
const HOUR_MS = 3_600_000;

export const UNFINISHED = ["queued", "running"];

class Store extends Emitter {
  /** By node id; as in `GET /nodes`. */
  nodes = new Map();
  /** By job id, the newest first, with every unfinished one; as in `GET /jobs`. */
  jobs = new Map();
  /** As `GET /health` told it last. */
  health = null;
  /** What was done every two seconds, as far as this page saw it: `{at, shards, items, busy}`. */
  history = [];
  /** How often each node was lost within the last hour, as far as the newest events tell. */
  flaps = new Map();
  /** Which of "nodes", "jobs" and "health" are known. */
  known = new Set();

  #losses = null;
  #ends = [];
  #timers = new Map();
  #loading = new Map();
  #shards = 0;
  #items = 0;

  /** Follows the hub. */
  start() {
    // At once, and again when events are followed: what happens in between is told by nobody.
    if (!this.#loading.size && !this.known.size) this.refresh();
    this.#ends.push(
      live.subscribe({ event_type: [...NODE_EVENTS, ...JOB_EVENTS, "component_failed",
        "job_progress"] }, (event) => this.#event(event), { onReady: () => this.refresh() }),
      live.subscribe({}, ({ data }) => this.#measured(data), { command: "telemetry/subscribe",
        onError: () => {} }),
    );
    const sampling = setInterval(() => this.#sample(), HISTORY_EVERY_MS);
    this.#ends.push(() => clearInterval(sampling));
  }

  /** Hears once of the nodes that were lost lately, and then of each. */
  #followLosses() {
    if (this.health === null || this.#losses !== null) return;
    this.#losses = [];
    this.#ends.push(live.subscribe({ event_type: "node_down",
      since: Math.max(0, this.health.last_seq - LOSSES_BACK) }, ({ time_fired: at, data }) => {
      const since = Date.now() - HOUR_MS;
      this.#losses = [...this.#losses, { at: new Date(at).getTime(), id: data.node_id }]
        .filter((loss) => loss.at > since);
      this.flaps = new Map();
      for (const { id } of this.#losses) this.flaps.set(id, (this.flaps.get(id) ?? 0) + 1);
    }));
  }

  stop() {
    for (const end of this.#ends.splice(0)) end();
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    this.nodes.clear();
    this.jobs.clear();
    this.known.clear();
    this.history = [];
    this.health = null;
    this.#losses = null;
    this.flaps.clear();
  }

  /** Asks for everything again; resolves when it is here. */
  refresh() {
    return Promise.all([this.loadNodes(), this.loadJobs(), this.loadHealth()]);
  }

  loadNodes() {
    return this.#load("nodes", async () => {
      const { nodes } = await api.get("/nodes");
      this.nodes = new Map(nodes.map((node) => [node.node_id, node]));
    });
  }

  loadJobs() {
    return this.#load("jobs", async () => {
      const pages = await Promise.all([
        api.get("/jobs", { query: { state: UNFINISHED.join(), limit: JOBS_MAX } }),
        api.get("/jobs", { query: { limit: JOBS_MAX } }),
      ]);
      const found = pages.flatMap((page) => page.jobs)
        .sort((one, other) => (one.created_at < other.created_at ? 1 : -1));
      this.jobs = new Map(found.map((job) => [job.job_id, job]));
    });
  }

  loadHealth() {
    return this.#load("health", async () => {
      this.health = await api.get("/health");
      this.#followLosses();
    });
  }

  /** Takes a node as an answer of the API told it. */
  putNode(node) {
    this.nodes.set(node.node_id, node);
    this.emit("nodes", node.node_id);
  }

  async #load(what, work) {
    if (this.#loading.has(what)) {
      // What is under way may have been asked before what is to be known happened.
      this.#soon(what);
      return this.#loading.get(what);
    }
    const loading = work().then(() => {
      this.known.add(what);
      this.emit(what);
    }, () => {
      // The connection's banner says it; the next connection loads again.
    }).finally(() => {
      this.#loading.delete(what);
      if (live.state === "connected") this.#again(what);
    });
    this.#loading.set(what, loading);
    return loading;
  }

  #again(what) {
    // What has happened meanwhile is asked for soon anyway, and events tell all of jobs.
    if (what === "jobs" || this.#timers.has(what)) return;
    this.#later(what, this.#isBusy() ? BUSY_MS : IDLE_MS);
  }

  #isBusy() {
    for (const job of this.jobs.values()) if (UNFINISHED.includes(job.state)) return true;
    return false;
  }

  #soon(what) {
    this.#later(what, SOON_MS);
  }

  #later(what, wait) {
    clearTimeout(this.#timers.get(what));
    const load = { nodes: () => this.loadNodes(), jobs: () => this.loadJobs(),
      health: () => this.loadHealth() }[what];
    this.#timers.set(what, setTimeout(() => {
      this.#timers.delete(what);
      if (live.state === "connected") load();
    }, wait));
  }

  #event({ event_type: type, data }) {
    if (type === "job_progress") this.#progressed(data);
    else if (type.startsWith("job_")) this.#jobChanged(type, data);
    else if (type === "component_failed") this.#soon("health");
    else this.#soon("nodes");
  }

  #jobChanged(type, data) {
    if (type === "job_pruned") {
      if (this.jobs.delete(data.job_id)) this.emit("jobs", data.job_id);
      return;
    }
    this.#soon("jobs");
    if (type !== "job_queued" && type !== "job_changed") this.#soon("nodes");
  }

  #progressed({ job_id: id, ...now }) {
    const job = this.jobs.get(id);
    if (job === undefined) {
      this.#soon("jobs");
      return;
    }
    this.#count(job.progress, now);
    const progress = { ...job.progress, ...now };
    this.jobs.set(id, { ...job, progress, state: job.state === "queued" ? "running" : job.state });
    this.emit("jobs", id);
  }

  #count(before, now) {
    this.#shards += Math.max(0, (now.shards_done ?? 0) - (before.shards_done ?? 0));
    this.#items += Math.max(0, (now.items_done ?? 0) - (before.items_done ?? 0));
  }

  #measured({ node_id: id, ...telemetry }) {
    const node = this.nodes.get(id);
    if (node === undefined) return;
    this.nodes.set(id, { ...node, telemetry });
    this.emit("nodes", id);
  }

  #sample() {
    if (live.state !== "connected") return;
    const seconds = HISTORY_EVERY_MS / 1000;
    let busy = 0;
    for (const node of this.nodes.values()) busy += busySlots(node);
    this.history.push({
      at: Date.now() / 1000, shards: this.#shards / seconds, items: this.#items / seconds, busy,
    });
    this.#shards = this.#items = 0;
    if (this.history.length > HISTORY_MAX) this.history.shift();
    this.emit("history");
  }
}

export const store = new Store();

// Nodes.

/** Why a node that is connected takes no work, or runs less than it could; null if neither. */
export function whyIdle(node) {
  if (node.state === "banned") return node.ban_reason || "banned";
  if (node.state === "drained" || node.state === "draining") return node.drain_reason || node.state;
  if (node.state === "pending") return "waits for approval";
  if (node.refuses) return node.refuses;
  if (node.quarantines.length) return `kept from a module: ${node.quarantines[0].reason}`;
  return node.telemetry?.slower ?? null;
}

/** How many shards a node runs at once for now; null if it is not connected. */
export const slotsOf = (node) => (node.slots === null ? null : node.telemetry?.slots ?? node.slots);

/** How many of these have a shard; it may have been given more, which wait there. */
export const busySlots = (node) => Math.min(node.assignments, slotsOf(node) ?? 0);

/** The slots of a node in words. */
export function slotWords(node) {
  const slots = slotsOf(node);
  if (slots === null) return "not connected";
  const ahead = node.assignments - busySlots(node);
  return `${busySlots(node)} of ${slots}${ahead ? `, ${ahead} next` : ""}`;
}

/** The working, waiting, suspended and absent among the nodes. */
export function tally(nodes) {
  const found = { up: 0, working: 0, waiting: 0, suspended: 0, pending: 0, banned: 0, slots: 0,
    busy: 0, reasons: new Map() };
  for (const node of nodes) {
    if (node.state === "pending") found.pending += 1;
    if (node.state === "banned") found.banned += 1;
    if (!isConnected(node)) continue;
    found.up += 1;
    found.busy += busySlots(node);
    found.slots += slotsOf(node) ?? 0;
    if (node.assignments) {
      found.working += 1;
    } else if (node.refuses || node.state !== "up") {
      found.suspended += 1;
      const reason = whyIdle(node);
      found.reasons.set(reason, (found.reasons.get(reason) ?? 0) + 1);
    } else {
      found.waiting += 1;
    }
  }
  return found;
}

export const isConnected = (node) => ["up", "draining", "drained"].includes(node.state) &&
  node.slots !== null;

// Events.

const EVENT_KINDS = {
  job_completed: "ok", job_failed: "bad", job_cancelled: "", shard_failed: "bad",
  shard_returned: "warn", node_down: "warn", node_banned: "bad", node_drained: "warn",
  component_failed: "bad", configuration_refused: "bad", network_banned: "bad", shard_done: "", shard_assigned: "",
};

export const TYPES = ["job_queued", "job_running", "job_changed", "job_completed", "job_failed",
  "job_cancelled", "job_pruned", "shard_assigned", "shard_done", "shard_returned", "shard_failed",
  "node_up", "node_down", "node_drained", "node_undrained", "node_labelled", "node_banned",
  "node_unbanned", "network_banned", "network_unbanned", "component_failed",
  "configuration_reloaded", "configuration_refused"];

/** "ok", "warn", "bad", "info" or "": how an event is to be seen. */
export const kindOf = (type) => EVENT_KINDS[type] ?? "info";

/** A link to a node, by its name if that is known. */
export function nodeLink(id) {
  return link(`/nodes/${encodeURIComponent(id)}`, store.nodes.get(id)?.name || shortId(id));
}

/** A link to a job, by its name if that is known. */
export function jobLink(id) {
  return link(`/jobs/${encodeURIComponent(id)}`, store.jobs.get(id)?.name || shortId(id));
}

/** What an event is about, and what it says: texts and links. */
export function wordsOf({ data }) {
  const parts = [];
  const { job_id: job, index, node_id: node, ...rest } = data;
  if (index !== undefined) parts.push(`shard ${index} of `);
  if (job) parts.push(jobLink(job));
  if (node) parts.push(job ? " on " : "", nodeLink(node));
  const words = Object.entries(rest).map(([name, value]) => said(name, value)).filter(Boolean);
  return [...parts, words.length ? ": " : "", words.join(", ")];
}

function said(name, value) {
  if (value === null || value === "") return "";
  if (Array.isArray(value) && value.length === 0) return "";
  if (name === "wall_s") return `took ${duration(value)}`;
  if (name === "n_items") return count(value, "items");
  if (name === "shards" || name === "retries") return count(value, name);
  if (name === "reason" || name === "message") return String(value);
  if (name === "attempt") return value > 1 ? `attempt ${value}` : "";
  return `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`;
}
