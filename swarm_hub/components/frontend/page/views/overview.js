/** The whole swarm at one look: what works, what waits and why, what needs somebody. */
import { api } from "../core/connection.js";
import { badge, h, inFrame, link, progress, renew, replace, route, setText, View } from
  "../core/dom.js";
import { count, duration, percent, rate, timeElement } from "../core/format.js";
import { jobLink, nodeLink, store, tally, UNFINISHED } from "../core/store.js";

const JOBS_SHOWN = 12;
const WAITS_ASKED = 6;
const WAITS_EVERY_S = 5;

class Overview extends View {
  #waits = new Map();
  #paces = new Map();
  #figures = new Map();
  #needs = h("section.card", { "aria-live": "polite", hidden: true });
  #work = h("section.card");
  #isEmpty = false;

  render() {
    const figures = ["Nodes", "Slots busy", "Queue", "Throughput"].map((title) => {
      const [big, small] = [h("dd"), h("dd.small")];
      this.#figures.set(title, [big, small]);
      return h("div.figure", h("dt", title), big, small);
    });
    replace(this, h("div.head", h("h1", { tabindex: -1 }, "Overview")), h("div.stack",
      this.#needs, h("dl.card.figures", figures),
      this.#work, h("hub-swarm-graphs.grid")));
    const draw = inFrame(() => this.#draw());
    for (const what of ["nodes", "jobs", "health"]) this.on(store, what, draw);
    this.on(store, "jobs", (id) => id === undefined && this.#askWhy());
    this.every(WAITS_EVERY_S, () => this.#askWhy());
    this.#draw();
    // What is drawn first does without them.
    requestAnimationFrame(() => setTimeout(() => import("../parts/swarm_graphs.js")));
  }

  #draw() {
    const jobs = [...store.jobs.values()];
    const open = jobs.filter(({ state }) => UNFINISHED.includes(state));
    const now = tally(store.nodes.values());
    this.#drawFigures(now, open);
    const needs = attention(store);
    this.#needs.hidden = needs.length === 0;
    renew(this.#needs, h("h2", "Needs attention"), h("ul.list", needs.map(({ kind, content }) =>
      h("li.row.nowrap-row", badge({ bad: "problem", warn: "look", info: "note" }[kind], kind),
        h("span.grow.any", content)))));
    this.#drawWork(open, jobs);
  }

  #drawFigures(now, open) {
    const say = (title, big, small) => {
      const [one, other] = this.#figures.get(title);
      setText(one, big);
      setText(other, small);
    };
    const words = [
      [now.working, "working"], [now.waiting, "waiting"], [now.pending, "to approve"],
      [now.suspended, "suspended"],
    ].filter(([n]) => n).map(([n, word]) => `${n} ${word}`);
    if (!store.known.has("nodes")) return;
    const reasons = [...now.reasons].map(([reason, n]) => `${n} ${reason}`);
    const why = reasons.length ? ` (${reasons.join(", ")})` : "";
    say("Nodes", `${now.up} up`, words.length ? words.join(", ") + why : "none connected");
    say("Slots busy", `${now.busy} of ${now.slots}`, now.slots
      ? `${percent((100 * Math.min(now.busy, now.slots)) / now.slots)} in use` : "no slots");
    const queued = open.filter(({ state }) => state === "queued").length;
    const left = open.reduce((sum, { progress: { items, items_done: done } }) =>
      sum + Math.max(0, (items ?? done) - done), 0);
    say("Queue", count(open.length, "jobs"),
      open.length ? `${queued} queued, ${count(left, "items")} left` : "nothing waits");
    const newest = store.history.slice(-5);
    const mean = (name) => newest.reduce((sum, each) => sum + each[name], 0) /
      Math.max(1, newest.length);
    say("Throughput", rate(mean("shards")), rate(mean("items"), "items"));
  }

  #drawWork(open, jobs) {
    if (store.known.has("nodes") && store.nodes.size === 0) {
      if (this.#isEmpty) return;
      this.#isEmpty = true;
      import("../parts/no_nodes.js").then(({ noNodes }) =>
        replace(this.#work, h("div.empty", noNodes())));
      return;
    }
    this.#isEmpty = false;
    open.sort((one, other) => this.#waits.has(other.job_id) - this.#waits.has(one.job_id));
    const listed = open.length ? open.slice(0, JOBS_SHOWN) : jobs.slice(0, 5);
    const title = open.length || !jobs.length ? "Jobs at work" : "The last jobs";
    if (!store.known.has("jobs")) return;
    renew(this.#work, h("div.row.between", h("h2", title), link("/jobs", "All jobs")),
      listed.length ? h("ul.list", listed.map((job) => this.#job(job)))
        : h("div.empty", h("strong", "No jobs yet"), h("p", "Drop a module on ",
          link("/submit", "Submit"), ", or type ", h("code", "swarm-hub submit MODULE DATA"))),
      open.length > JOBS_SHOWN && h("p.muted", `and ${open.length - JOBS_SHOWN} more`));
  }

  #job(job) {
    const { items, items_done: done, items_failed: failed } = job.progress;
    const waits = this.#waits.get(job.job_id);
    const left = this.#left(job);
    return h("li.stack.tight", { dataset: { key: job.job_id } },
      waits && h("p.notice.notice-warn", h("strong", "It waits: "), waits),
      h("div.row", { dataset: { key: "head" } }, h("strong.cut", jobLink(job.job_id)), badge(job.state),
        h("span.muted.small.grow", job.owner),
        h("span.muted.small", left !== null ? `about ${duration(left)} left`
          : job.duration_s !== null && job.finished_at ? `took ${duration(job.duration_s)}`
            : timeElement(job.created_at))),
      progress({ done, total: items, failed, label: `Progress of ${job.name ?? job.job_id}` }));
  }

  /** How many seconds a job needs yet, from its pace since this page saw it; null if unknown. */
  #left({ job_id: id, state, progress: { items, items_done: done } }) {
    if (state !== "running" || !items) return null;
    const now = performance.now() / 1000;
    const first = this.#paces.get(id);
    if (first === undefined || done < first.done || now - first.at > 60) {
      this.#paces.set(id, { at: now, done, pace: pace(first, now, done) });
      return pace(first, now, done) ? (items - done) / pace(first, now, done) : null;
    }
    const speed = now - first.at > 3 ? pace(first, now, done) : first.pace;
    return speed ? (items - done) / speed : null;
  }

  #asks = false;

  async #askWhy() {
    if (this.#asks) return;
    this.#asks = true;
    const open = [...store.jobs.values()].filter(({ state }) => UNFINISHED.includes(state));
    const asked = [...open].reverse().slice(0, WAITS_ASKED);
    const found = await Promise.all(asked.map(async ({ job_id: id }) => {
      const status = await api.get(`/jobs/${id}`, { signal: this.signal }).catch(() => null);
      return [id, typeof status?.waits === "string" ? status.waits : null];
    }));
    this.#asks = false;
    this.#waits = new Map(found.filter(([, waits]) => waits !== null));
    if (this.isConnected) this.#draw();
  }
}

const pace = (first, now, done) =>
  (first === undefined || now - first.at < 1 ? null : (done - first.done) / (now - first.at));

customElements.define("hub-overview", Overview);
route("/", "hub-overview", "Overview");

// What somebody should look at.

const RECENT_MS = 24 * 3600 * 1000;
const FLAPS = 3;
const HOT_C = 60;
const SHOWN = 5;
const RANK = { bad: 0, warn: 1, info: 2 };

function attention({ health, nodes, jobs, flaps }) {
  const found = [];
  const say = (kind, ...content) => found.push({ kind, content });
  for (const problem of health?.problems ?? []) say("bad", problem);
  if (health?.disk_full) say("bad", `The disk is full: ${health.disk_full}`);
  jobNotes([...jobs.values()], say);
  nodeNotes([...nodes.values()], flaps, say);
  return found.sort((one, other) => RANK[one.kind] - RANK[other.kind]);
}

function jobNotes(jobs, say) {
  const since = Date.now() - RECENT_MS;
  const failed = jobs.filter(({ state, finished_at: at }) =>
    state === "failed" && new Date(at) > since);
  for (const job of failed.slice(0, SHOWN)) {
    say("bad", jobLink(job.job_id), " failed ", timeElement(job.finished_at));
  }
  if (failed.length > SHOWN) {
    say("bad", link("/jobs", `${failed.length - SHOWN} more jobs failed today`,
      { state: "failed" }));
  }
  const lossy = jobs.filter(({ state, progress }) => state === "completed" &&
    progress.items_failed);
  for (const { job_id: id, progress } of lossy.slice(0, SHOWN)) {
    say("warn", jobLink(id), ` left out ${progress.items_failed} items that failed`);
  }
}

function nodeNotes(nodes, flaps, say) {
  for (const node of nodes) {
    const id = node.node_id;
    const { temperature_c: warmth } = node.telemetry ?? {};
    if (node.state === "pending") say("info", nodeLink(id), " waits for approval");
    if (node.state === "banned" && node.ban_until === null) {
      say("info", nodeLink(id), ` is banned: ${node.ban_reason}`);
    }
    if ((flaps.get(id) ?? 0) >= FLAPS) {
      say("warn", nodeLink(id), ` was lost ${flaps.get(id)} times within an hour`);
    }
    if (node.trust.contradictions) {
      say("warn", nodeLink(id), ` gave ${node.trust.contradictions} results that others contradict`);
    }
    for (const { reason } of node.quarantines) say("warn", nodeLink(id), ` is kept from a module: ${reason}`);
    if (warmth !== null && warmth !== undefined && warmth >= HOT_C) {
      say("warn", nodeLink(id), ` is at ${Math.round(warmth)} °C`);
    }
  }
}
