/** What is told of a job in lists: its failures, its nodes' shares, its receipts and its story. */
import { api } from "../core/connection.js";
import { badge, h, replace } from "../core/dom.js";
import { bytes, clock, count, duration, percent, shortId, timeElement } from "../core/format.js";
import { nodeLink, wordsOf } from "../core/store.js";
import { button, column, items, textBox } from "./job_words.js";
import "./table.js";

const PAGE = 100;
const STORY_PAGE = 500;

/** A list that comes in pages: `page(cursor)` returns `{entries, cursor}` with elements. */
async function paged(page, cursor = null) {
  const { entries, cursor: next } = await page(cursor);
  if (next === null) return entries;
  const more = button("Show more", async () => {
    more.disabled = true;
    more.replaceWith(...(await paged(page, next)));
  }, ".button-small");
  return [...entries, more];
}

/** The failed items, each with its text and, where there are attempts, the stderr of each. */
export async function failures(id, signal) {
  return h("div.job-list", await paged(async (cursor) => {
    const page = await api.get(`/jobs/${id}/failures`, { query: { cursor, limit: PAGE }, signal });
    return { entries: page.failures.map((each) => failure(id, each)), cursor: page.cursor };
  }));
}

function failure(id, { place, state, text, nodes, shard, ...each }) {
  const attempts = h("div");
  const names = new Map(nodes.map(({ node_id: node, name }) => [node, name ?? shortId(node)]));
  const load = async ({ target }) => {
    if (!target.open || attempts.firstChild) return;
    const page = await api.get(`/jobs/${id}/shards`,
      { query: { cursor: shard > 0 ? shard - 1 : null, limit: 1 } });
    replace(attempts, page.shards[0]?.attempts.map(({ attempt, node_id: node, state: end, reason }) =>
      h("div.job-attempt",
        h("p.muted", `attempt ${attempt} on ${names.get(node) ?? shortId(node)}, ${end}`),
        reason && textBox(reason))));
  };
  const on = names.size ? ` on ${[...names.values()].join(", ")}` : "";
  return h("details.job-failure", { ontoggle: load },
    h("summary", h("strong", items(each.first_item, each.n_items)),
      place && h("span.mono.any", place), badge(state, state === "retrying" ? "warn" : "bad"),
      h("span.any", text)),
    h("p.muted", `shard ${shard}, failed ${count(each.n_failures, "times")}${on}`),
    attempts);
}

/** A table of what each node did. */
export function sharesTable() {
  const table = h("hub-table");
  const number = (id, title, cell) => column(id, title, { cell, numeric: true });
  table.label = "Nodes of this job";
  // Until it is known whether any has.
  table.empty = "…";
  table.columns = [
    column("name", "Node", { cell: (_, row) => nodeLink(row.id), head: true }),
    number("done", "Shards done"),
    number("share", "Share", percent),
    number("attempts", "Attempts"),
    number("failed", "Failed"),
    number("ran", "Time", duration),
    number("cpu", "CPU", duration),
    number("memory", "Peak memory", bytes),
  ];
  table.sort = { column: "done", descending: true };
  return table;
}

/** The rows of that table, by a model; `ended` is what the hub says of a job that has ended. */
export function shareRows(model, nameOf, ended) {
  return model.shares().map((each) => {
    const known = ended?.find(({ node_id: node }) => node === each.id);
    return { ...each, name: nameOf(each.id), ran: each.ms / 1000, cpu: known?.cpu_s,
      share: model.nDone ? (100 * each.done) / model.nDone : 0, memory: known?.peak_memory_bytes };
  });
}

/** The results with receipts; whether a signature is right is for `swarm-hub job receipts`. */
export async function receipts(id, node = null) {
  const rows = await paged(async (cursor) => {
    const page = await api.get(`/jobs/${id}/receipts`,
      { query: { node, cursor, limit: PAGE } });
    if (page.why_none) return { entries: [h("p.muted", `None: ${page.why_none}`)], cursor: null };
    const signed = new Map(page.receipts.map((each) => [each.sha, each]));
    const counted = new Map(
      page.results.filter((each) => each.counted).map((each) => [each.index, each.result_sha]));
    return { cursor: page.cursor, entries: page.results.map((each) =>
      receipt(each, signed.get(each.receipt), counted.get(each.index) === each.result_sha)) };
  });
  return h("div.job-list", rows,
    h("p.muted", "The signatures are checked by ", h("code", `swarm-hub job receipts ${id}`)));
}

function receipt(each, envelope, isSame) {
  const verdict = !each.counted ? badge(`not counted, ${isSame ? "agrees" : "differs"}`,
    isSame ? "ok" : "bad")
    : envelope?.certificate ? badge("counted", "ok") : badge("counted, key not certified", "warn");
  return h("div.row.job-line",
    h("span", `shard ${each.index}, ${items(each.first_item, each.n_items)}`),
    nodeLink(each.node_id), verdict,
    h("span.mono.muted", { title: each.result_sha }, shortId(each.result_sha)),
    envelope && h("span.muted", `key ${envelope.kid}, `, timeElement(envelope.received_at, clock)));
}

/** Every durable event of a job, in order. */
export async function story(id) {
  return h("div.job-list", await paged(async (after) => {
    const { events } = await api.get(`/jobs/${id}/story`, { query: { after, limit: STORY_PAGE } });
    return { cursor: events[STORY_PAGE - 1]?.seq ?? null, entries: events.map((event) =>
      h("div.row.job-line", h("span.muted.number", event.seq), timeElement(event.time_fired, clock),
        h("strong", event.event_type.replaceAll("_", " ")),
        h("span.any.grow", wordsOf(event)))) };
  }));
}
