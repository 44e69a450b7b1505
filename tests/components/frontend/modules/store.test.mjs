import assert from "node:assert/strict";
import { mock, test } from "node:test";

import "./browser.mjs";
import { live } from "./page/core/connection.js";
import { store } from "./page/core/store.js";

const settled = () => new Promise((resolve) => setImmediate(resolve));
const node = (values) => ({ node_id: "a", name: "phone", state: "up", slots: 1, assignments: 0,
  telemetry: null, ...values });

/** The store with a hub whose answers are given by hand. */
function started(t) {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const asked = [];
  const subscriptions = [];
  globalThis.fetch = (url) => new Promise((resolve) => {
    asked.push({ url, answer: (body) => resolve(new Response(JSON.stringify(body))) });
  });
  live.state = "connected";
  live.subscribe = (filter, handler, { command, onReady } = {}) => {
    subscriptions.push({ filter, handler, command, onReady });
    return () => {};
  };
  store.start();
  t.after(async () => {
    for (const each of asked) each.answer({ nodes: [], jobs: [], last_seq: 0 });
    await settled();
    store.stop();
    mock.timers.reset();
  });
  /** Answers what was asked for, the newest first. */
  const answer = async (path, body) => {
    const at = asked.findLastIndex(({ url }) => url.split("?")[0] === `/api/v1${path}`);
    assert.ok(at >= 0, `${path} was not asked for`);
    asked.splice(at, 1)[0].answer(body);
    await settled();
  };
  const events = subscriptions[0];
  const fire = (type, data) => events.handler({ event_type: type, data });
  return { asked, answer, events, fire, telemetry: subscriptions[1] };
}

test("what happens while nodes are asked for is asked for again", async (t) => {
  const { asked, answer, events, fire } = started(t);
  events.onReady({ last_seq: 1, events_lost: false });
  fire("node_drained", { node_id: "a", reason: "" });
  mock.timers.tick(300);
  await answer("/nodes", { nodes: [node()] });
  assert.equal(store.nodes.get("a").state, "up");
  mock.timers.tick(300);
  await answer("/nodes", { nodes: [node({ state: "drained" })] });
  assert.equal(store.nodes.get("a").state, "drained");
  assert.equal(asked.filter(({ url }) => url.endsWith("/nodes")).length, 0);
});

test("telemetry and progress change what they are about, and count what was done", async (t) => {
  const { answer, events, fire, telemetry } = started(t);
  events.onReady({ last_seq: 1, events_lost: false });
  const progress = { items: 100, items_done: 0, items_failed: 0, shards: 10, shards_done: 0 };
  const job = { job_id: "j", state: "queued", created_at: "2026-01-01", progress };
  await answer("/jobs", { jobs: [job] });
  await answer("/jobs", { jobs: [job] });
  await answer("/nodes", { nodes: [node({ assignments: 3 })] });
  telemetry.handler({ data: { node_id: "a", cpu_percent: 5, slots: 2 } });
  telemetry.handler({ data: { node_id: "unknown", cpu_percent: 5 } });
  assert.deepEqual(store.nodes.get("a").telemetry, { cpu_percent: 5, slots: 2 });
  assert.equal(store.nodes.size, 1);
  fire("job_progress", { job_id: "j", items: 100, items_done: 40, shards_done: 4, retries: 0 });
  assert.equal(store.jobs.get("j").state, "running");
  assert.equal(store.jobs.get("j").progress.items_done, 40);
  mock.timers.tick(2000);
  const { shards, items, busy } = store.history.at(-1);
  assert.deepEqual([shards, items, busy], [2, 20, 2]);
  fire("job_pruned", { job_id: "j" });
  assert.equal(store.jobs.size, 0);
});
