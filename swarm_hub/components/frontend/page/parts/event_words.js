/** Durable events as people read them. */
import { count, duration, shortId } from "../core/format.js";
import { link } from "../core/router.js";
import { store } from "../core/store.js";

const KINDS = {
  job_completed: "ok", job_failed: "bad", job_cancelled: "", shard_failed: "bad",
  shard_returned: "warn", node_down: "warn", node_banned: "bad", node_drained: "warn",
  component_failed: "bad", network_banned: "bad", shard_done: "", shard_assigned: "",
};

export const TYPES = ["job_queued", "job_running", "job_changed", "job_completed", "job_failed",
  "job_cancelled", "job_pruned", "shard_assigned", "shard_done", "shard_returned", "shard_failed",
  "node_up", "node_down", "node_drained", "node_undrained", "node_banned", "node_unbanned",
  "network_banned", "network_unbanned", "component_failed"];

/** "ok", "warn", "bad", "info" or "": how an event is to be seen. */
export const kindOf = (type) => KINDS[type] ?? "info";

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
