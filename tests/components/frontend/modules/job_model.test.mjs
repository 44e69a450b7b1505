import assert from "node:assert/strict";
import test from "node:test";
import {
  CANCELLED, COPY, DONE, FAILED, FIRST, JobModel, LIVE, POOL, RETRY, RETURNED, RUNNING, SPLIT,
  SUPERSEDED,
} from "./page/core/job_model.js";

const T0 = Date.parse("2026-01-01T00:00:00Z");
const iso = (ms) => (ms === null ? null : new Date(T0 + ms).toISOString());

function tried(attempt, node, from, to, { state = "finished", reason = null } = {}) {
  return { attempt, node_id: node, state, reason, offered_at: iso(from), ended_at: iso(to) };
}

function shard(index, first, n, state, attempts, result = null) {
  return { index, state, first_item: first, n_items: n, attempts, result };
}

let seq = 0;
const event = (type, ms, data) => ({ seq: seq += 1, event_type: type, time_fired: iso(ms), data: { job_id: "J", ...data } });
const assigned = (index, attempt, node, ms, n = 10) =>
  event("shard_assigned", ms, { index, attempt, node_id: node, n_items: n });
const done = (index, node, ms, wall = 0.01) => event("shard_done", ms, { index, node_id: node, n_items: 10, wall_s: wall });

function told(...events) {
  const model = new JobModel();
  for (const each of events) model.apply(each);
  return model;
}

function rowsOf(model, index) {
  const rows = Array.from({ length: model.nAttempts }, (_, row) => row);
  return rows.filter((row) => model.columns.shard[row] === index);
}

const states = (model, index) => rowsOf(model, index).map((row) => model.columns.state[row]);
const kinds = (model, index) => rowsOf(model, index).map((row) => model.columns.kind[row]);

test("a page tells of each attempt how it ended and how long it ran", () => {
  const model = new JobModel();
  model.addPage([
    shard(0, 0, 10, "done", [
      tried(1, "a", 0, 100, { state: "expired", reason: "its lease ended" }),
      tried(2, "b", 150, 400),
    ], { node_id: "b", wall_s: 0.2 }),
    shard(1, 10, 5, "dead", [tried(1, "a", 10, 60, { reason: "exit: 3: no" })]),
    shard(2, 15, 5, "assigned", [tried(1, "a", 20, null, { state: "offered" })]),
  ]);
  assert.deepEqual(states(model, 0), [RETURNED, DONE]);
  assert.deepEqual(kinds(model, 0), [FIRST, RETRY]);
  const [, second] = rowsOf(model, 0);
  assert.equal(model.columns.ran[second], 200);
  assert.deepEqual(states(model, 1), [FAILED]);
  assert.equal(model.reasons.get(rowsOf(model, 1)[0]), "exit: 3: no");
  assert.deepEqual(states(model, 2), [LIVE]);
  assert.deepEqual([model.nDone, model.nRetries, model.nCopies], [1, 1, 0]);
  assert.equal(model.hasUnplaced, false);
});

test("events tell the same as a page", () => {
  const model = told(
    assigned(0, 1, "a", 0), event("shard_returned", 100, { index: 0, reason: "lost" }),
    assigned(0, 2, "b", 150), done(0, "b", 400, 0.2),
  );
  assert.deepEqual(states(model, 0), [RETURNED, DONE]);
  assert.deepEqual(kinds(model, 0), [FIRST, RETRY]);
  assert.equal(model.columns.ran[rowsOf(model, 0)[1]], 200);
  assert.equal(model.isGuessed, true);
  model.addPage([shard(0, 0, 10, "done", [
    tried(1, "a", 0, 100, { state: "expired", reason: "lost" }), tried(2, "b", 150, 400),
  ], { node_id: "b", wall_s: 0.2 })]);
  assert.equal(model.nAttempts, 2);
  assert.equal(model.hasUnplaced, false);
  assert.equal(model.nDone, 1);
});

test("shards follow each other, until one fails and is split", () => {
  const model = told(assigned(0, 1, "a", 0, 10), assigned(1, 1, "a", 0, 5), assigned(2, 1, "a", 0, 7));
  assert.deepEqual([...model.shards.first.subarray(0, 3)], [0, 10, 15]);
  assert.deepEqual([model.hasUnplaced, model.isGuessed], [false, false]);
  model.apply(event("shard_failed", 5, { index: 1, node_id: "a", message: "no" }));
  model.apply(assigned(3, 1, "a", 6, 2));
  assert.deepEqual([model.hasUnplaced, model.firstUnplaced()], [true, 3]);
  model.addPage([shard(3, 10, 2, "assigned", [tried(1, "a", 6, null, { state: "offered" })])]);
  assert.deepEqual([model.hasUnplaced, model.shards.first[3]], [false, 10]);
});

test("an event that is known changes nothing", () => {
  const events = [assigned(0, 1, "a", 0), done(0, "a", 50)];
  const model = told(...events);
  const { version } = model;
  for (const each of events) assert.equal(model.apply(each), false);
  assert.equal(model.version, version);
  assert.deepEqual([model.nAttempts, model.nDone], [1, 1]);
});

test("a copy is told from a retry, and ends when the other is done", () => {
  const model = told(assigned(0, 1, "a", 0), assigned(0, 2, "b", 100), done(0, "b", 200));
  assert.deepEqual(kinds(model, 0), [FIRST, COPY]);
  assert.deepEqual(states(model, 0), [SUPERSEDED, DONE]);
  assert.equal(model.nCopies, 1);
});

test("what is given out again in the same commit is not ended by its return", () => {
  const model = told(
    assigned(0, 1, "a", 0), assigned(0, 2, "b", 100), event("shard_returned", 100, { index: 0, reason: "lost" }),
  );
  assert.deepEqual(states(model, 0), [RETURNED, LIVE]);
});

test("a result of one that was taken for lost counts", () => {
  const model = told(
    assigned(0, 1, "a", 0), event("shard_returned", 100, { index: 0, reason: "lost" }), done(0, "a", 120),
  );
  assert.deepEqual(states(model, 0), [DONE]);
});

test("a failure has its text, and the end of a job ends what runs", () => {
  const model = told(
    assigned(0, 1, "a", 0), assigned(1, 1, "a", 0),
    event("shard_failed", 50, { index: 0, node_id: "a", message: "<b>no</b>" }), event("job_failed", 60, {}),
  );
  assert.deepEqual([states(model, 0), states(model, 1)], [[FAILED], [CANCELLED]]);
  assert.equal(model.reasons.get(0), "<b>no</b>");
});

test("what ran one after the other has one row, though it was given out and heard of at once", () => {
  const model = told(
    assigned(0, 1, "a", 0), assigned(1, 1, "a", 0), assigned(2, 1, "b", 0),
    done(0, "a", 100, 0.04), done(1, "a", 100, 0.05), done(2, "b", 90, 0.09),
  );
  const { nLanes, offsets } = model.lanes();
  assert.equal(nLanes, 2);
  assert.deepEqual(offsets, [0, 1]);
  assert.deepEqual([...model.columns.from.subarray(0, 3)], [T0, T0 + 40, T0]);
});

test("what must have run at one time has rows of its own, and so has what runs", () => {
  const model = told(assigned(0, 1, "a", 0), assigned(1, 1, "a", 0), done(0, "a", 50, 0.05), done(1, "a", 60, 0.05));
  assert.equal(model.lanes().nLanes, 2);
  for (const index of [2, 3, 4]) model.apply(assigned(index, 1, "a", 60));
  assert.equal(model.lanes().nLanes, 3);
});

test("no two bars of a row overlap, and each lies between what is known of it", () => {
  const model = new JobModel();
  const shards = [];
  let random = 7;
  const next = (below) => (random = (random * 1103515245 + 12345) % 2147483648) % below;
  for (let index = 0; index < 2000; index += 1) {
    const from = next(100_000);
    const to = from + 1 + next(500);
    const node = `n${next(5)}`;
    const result = next(4) ? { node_id: node, wall_s: next(to - from) / 1000 } : null;
    shards.push(shard(index, index, 1, "done", [tried(1, node, from, to)], result));
  }
  model.addPage(shards);
  const { order, offsets } = model.lanes();
  const ends = new Map();
  const { offered, from, to, ended, node, lane } = model.columns;
  for (let at = 1; at < order.length; at += 1) assert.ok(ended[order[at - 1]] <= ended[order[at]]);
  for (const row of order) {
    const key = offsets[node[row]] + lane[row];
    assert.ok((ends.get(key) ?? 0) <= from[row]);
    assert.ok(offered[row] <= from[row] && to[row] <= ended[row] + 1);
    ends.set(key, to[row]);
  }
});

test("any moment of the past is as it was", () => {
  const model = told(assigned(0, 1, "a", 0), assigned(1, 1, "b", 10), done(0, "a", 100),
    event("shard_returned", 120, { index: 1, reason: "lost" }), assigned(1, 2, "a", 150), done(1, "a", 300));
  const at = (ms) => [model.shardStateAt(0, T0 + ms), model.shardStateAt(1, T0 + ms)];
  assert.deepEqual(at(-1), [POOL, POOL]);
  assert.deepEqual(at(50), [RUNNING, RUNNING]);
  assert.deepEqual(at(110), [DONE, RUNNING]);
  assert.deepEqual(at(130), [DONE, POOL]);
  assert.deepEqual(at(200), [DONE, RUNNING]);
  assert.deepEqual(at(300), [DONE, DONE]);
  assert.deepEqual(model.countsAt(T0 + 200), { done: 1, live: 1, failed: 0, itemsDone: 10, itemsFailed: 0 });
});

test("the map of items has each of them once, and a shard that was split gives way to its parts", () => {
  const model = new JobModel();
  model.addPage([
    shard(0, 0, 40, "done", [tried(1, "a", 0, 10)], { node_id: "a", wall_s: 0 }),
    shard(1, 40, 40, "split", [tried(1, "a", 0, 20, { reason: "no" })]),
    shard(2, 40, 20, "skipped", [tried(1, "a", 20, 30, { reason: "no" })]),
    shard(3, 60, 20, "assigned", [tried(1, "a", 20, null, { state: "offered" })]),
  ]);
  assert.equal(model.shardStateAt(1, Infinity), SPLIT);
  const { done: ready, live, failed } = model.cellsAt(Number.MAX_VALUE, 100, 10);
  assert.deepEqual([...ready], [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]);
  assert.deepEqual([...failed], [0, 0, 0, 0, 1, 1, 0, 0, 0, 0]);
  assert.deepEqual([...live], [0, 0, 0, 0, 0, 0, 1, 1, 0, 0]);
  const one = model.cellsAt(Number.MAX_VALUE, 100, 1);
  assert.ok(Math.abs(one.done[0] - 0.4) < 1e-6);
});

test("the shares of nodes count what each did", () => {
  const model = told(assigned(0, 1, "a", 0), assigned(1, 1, "b", 0), done(0, "a", 100, 0.05));
  assert.deepEqual(model.shares(), [
    { id: "a", attempts: 1, done: 1, failed: 0, live: 0, ms: 50 },
    { id: "b", attempts: 1, done: 0, failed: 0, live: 1, ms: 0 },
  ]);
});
