/** What is told of a job in lists: its failures, its nodes' shares, its receipts and its story. */
import { api } from "../core/api.js";
import { h, replace } from "../core/dom.js";
import { bytes, clock, count, duration, percent, shortId, timeElement } from "../core/format.js";
import { nodeLink, wordsOf } from "./event_words.js";
import { column } from "./job_words.js";
import { badge } from "./states.js";
import "./table.js";

const PAGE = 100;
const STORY_PAGE = 500;

/** A button that has more of a list shown. */
function more(load) {
  const button = h(
    "button.button.button-small",
    {
      type: "button",
      onclick: async () => {
        button.disabled = true;
        button.replaceWith(...(await load()));
      },
    },
    "Show more",
  );
  return button;
}

/** A list that comes in pages: `page(cursor)` returns `{entries, cursor}` with elements. */
async function paged(page, cursor = null) {
  const { entries, cursor: next } = await page(cursor);
  return next === null ? entries : [...entries, more(() => paged(page, next))];
}

/** The failed items, each with its text and, where there are attempts, the stderr of each. */
export async function failures(id, signal) {
  const found = await paged(async (cursor) => {
    const page = await api.get(`/jobs/${id}/failures`, { query: { cursor, limit: PAGE }, signal });
    return { entries: page.failures.map((each) => failure(id, each)), cursor: page.cursor };
  });
  return h("div.job-list", found);
}

function failure(
  id,
  { first_item: first, n_items: n, place, state, text, nodes, n_failures: times, shard },
) {
  const attempts = h("div");
  const load = async ({ target }) => {
    if (!target.open || attempts.firstChild) return;
    const page = await api.get(`/jobs/${id}/shards`, {
      query: { cursor: shard > 0 ? shard - 1 : null, limit: 1 },
    });
    replace(
      attempts,
      (page.shards[0]?.attempts ?? []).map((each) =>
        h(
          "div.job-attempt",
          h(
            "p.muted",
            `attempt ${each.attempt} on ${nodes.find(({ node_id: node }) => node === each.node_id)?.name ?? shortId(each.node_id)}, ${each.state}`,
          ),
          each.reason && h("pre.result-text", { tabindex: 0 }, each.reason),
        ),
      ),
    );
  };
  return h(
    "details.job-failure",
    { ontoggle: load },
    h(
      "summary",
      h("strong", n === 1 ? `item ${first}` : `items ${first} to ${first + n - 1}`),
      place && h("span.mono.any", place),
      badge(state, state === "retrying" ? "warn" : "bad"),
      h("span.job-reason", text),
    ),
    h(
      "p.muted",
      `shard ${shard}, failed ${count(times, "times")}${nodes.length ? ` on ${nodes.map(({ node_id: node, name }) => name ?? shortId(node)).join(", ")}` : ""}`,
    ),
    attempts,
  );
}

/** A table of what each node did. */
export function sharesTable() {
  const table = h("hub-table");
  const number = (cell) => ({ cell, numeric: true });
  table.label = "Nodes of this job";
  table.columns = [
    column("name", "Node", { cell: (_, row) => nodeLink(row.id), head: true }),
    column("done", "Shards done", number()),
    column("share", "Share", number(percent)),
    column("attempts", "Attempts", number()),
    column("failed", "Failed", number()),
    column("ran", "Time", number(duration)),
    column("cpu", "CPU", number(duration)),
    column("memory", "Peak memory", number(bytes)),
  ];
  table.sort = { column: "done", descending: true };
  return table;
}

/** The rows of that table, by a model; `ended` is what the hub says of a job that has ended. */
export function shareRows(model, nameOf, ended) {
  const known = new Map((ended ?? []).map((each) => [each.node_id, each]));
  return model.shares().map((each) => ({
    ...each,
    name: nameOf(each.id),
    share: model.nDone ? (100 * each.done) / model.nDone : 0,
    ran: each.ms / 1000,
    cpu: known.get(each.id)?.cpu_s,
    memory: known.get(each.id)?.peak_memory_bytes,
  }));
}

/** The results with receipts; whether a signature is right is for `swarm-hub job receipts`. */
export async function receipts(id) {
  const rows = await paged(async (cursor) => {
    const page = await api.get(`/jobs/${id}/receipts`, { query: { cursor, limit: PAGE } });
    if (page.why_none) return { entries: [h("p.muted", `None: ${page.why_none}`)], cursor: null };
    const signed = new Map(page.receipts.map((each) => [each.sha, each]));
    const counted = new Map(
      page.results.filter((each) => each.counted).map((each) => [each.index, each.result_sha]),
    );
    return {
      entries: page.results.map((each) => receipt(each, signed.get(each.receipt), counted)),
      cursor: page.cursor,
    };
  });
  return h(
    "div.job-list",
    rows,
    h("p.muted", "The signatures are checked by ", h("code", `swarm-hub job receipts ${id}`)),
  );
}

function receipt(each, envelope, counted) {
  const isSame = counted.get(each.index) === each.result_sha;
  const [kind, verdict] = each.counted
    ? envelope?.certificate
      ? ["ok", "counted"]
      : ["warn", "counted, key not certified"]
    : isSame
      ? ["ok", "not counted, agrees"]
      : ["bad", "not counted, differs"];
  const last = each.first_item + each.n_items - 1;
  return h(
    "div.row.job-line",
    h("span", `shard ${each.index}, items ${each.first_item} to ${last}`),
    nodeLink(each.node_id),
    badge(verdict, kind),
    h("span.mono.muted", { title: each.result_sha }, shortId(each.result_sha)),
    envelope && h("span.muted", `key ${envelope.kid}, `, timeElement(envelope.received_at, clock)),
  );
}

/** Every durable event of a job, in order. */
export async function story(id) {
  const found = await paged(async (after) => {
    const { events } = await api.get(`/jobs/${id}/story`, { query: { after, limit: STORY_PAGE } });
    const last = events.length === STORY_PAGE ? events[events.length - 1].seq : null;
    return { entries: events.map((event) => storyLine(event)), cursor: last };
  });
  return h("div.job-list", found);
}

function storyLine(event) {
  return h(
    "div.row.job-line",
    h("span.muted.number", event.seq),
    timeElement(event.time_fired, clock),
    h("strong", event.event_type.replaceAll("_", " ")),
    h("span.any.grow", wordsOf(event)),
  );
}
