/** A job's attempts in words: one of them, and all in a table. */
import { h } from "../core/dom.js";
import { clock, count, duration } from "../core/format.js";
import { KIND_WORDS, LIVE, STATE_WORDS } from "../core/job_model.js";
import { column } from "./job_words.js";
import "./table.js";

const REASON_MAX = 300;
const LEGEND = { live: "running", done: "done", retry: "retry", copy: "copy", failed: "failed",
  returned: "returned", ended: "superseded or cancelled" };
export const KEYS = "Keys: ← → move · + − zoom · 0 all · ↑ ↓ rows · , . attempts · Space replay";

/** What the colours and hatches mean. */
export const legend = () => h("ul.task-legend", Object.entries(LEGEND)
  .map(([name, text]) => h("li", h(`span.task-key.task-${name}`), text)));

/** What is known of an attempt at a time in ms, null for now, in lines. */
export function told(model, row, time, nameOf) {
  const { shard, attempt, node, state, kind, offered, ended, ran } = model.columns;
  const from = model.shards.first[shard[row]];
  const n = model.shards.items[shard[row]];
  const isLive = ended[row] > (time ?? Infinity) || state[row] === LIVE;
  const known = Number.isNaN(ran[row]) ? "" : `, ran ${duration(ran[row] / 1000)}`;
  return [
    `Shard ${shard[row]}, attempt ${attempt[row]}${kind[row] ? ` (${KIND_WORDS[kind[row]]})` : ""}`,
    Number.isNaN(from) ? count(n, "items") : `items ${from} to ${from + n - 1}`,
    `on ${nameOf(model.nodes[node[row]])}`,
    isLive ? "running"
      : `${STATE_WORDS[state[row]]} after ${duration((ended[row] - offered[row]) / 1000)}${known}`,
    `given out ${clock(new Date(offered[row]))}, ` +
      `${duration((offered[row] - model.start) / 1000)} after the start`,
    isLive ? "" : (model.reasons.get(row) ?? "").slice(0, REASON_MAX),
  ].filter(Boolean);
}

export function attemptsTable() {
  const table = h("hub-table");
  table.label = "Attempts";
  table.columns = [
    column("shard", "Shard", { numeric: true, head: true }),
    column("attempt", "Attempt", { cell: (attempt, { kind }) => `${attempt}, ${kind}` }),
    column("node", "Node"),
    column("state", "State"),
    column("given", "Given out", { cell: duration, numeric: true }),
    column("took", "Took", { cell: duration, numeric: true }),
    column("reason", "Why it ended"),
  ];
  return table;
}

export function attemptRows(model, now, nameOf) {
  const { shard, attempt, node, state, kind, offered, ended } = model.columns;
  return Array.from(model.lanes().order, (row) => ({
    id: row, shard: shard[row], attempt: attempt[row], kind: KIND_WORDS[kind[row]],
    node: nameOf(model.nodes[node[row]]), state: STATE_WORDS[state[row]],
    given: (offered[row] - model.start) / 1000,
    took: (Math.min(ended[row], now) - offered[row]) / 1000,
    reason: model.reasons.get(row) ?? "",
  }));
}
