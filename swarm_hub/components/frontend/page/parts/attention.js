/** What somebody should look at, the worst first: `[{kind, content}]`. */
import { timeElement } from "../core/format.js";
import { link } from "../core/router.js";
import { jobLink, nodeLink } from "./event_words.js";

const RECENT_MS = 24 * 3600 * 1000;
const FLAPS = 3;
const HOT_C = 60;
const SHOWN = 5;
const RANK = { bad: 0, warn: 1, info: 2 };

export function attention({ health, nodes, jobs, flaps }) {
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
