import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { Live } from "./page/core/connection.js";

/** A hub with a log of events, as its websocket speaks. */
class Hub {
  events = [];
  sockets = [];

  open = () => {
    const socket = { sent: [], subscriptions: new Map(), closed: false };
    socket.close = () => { socket.closed = true; };
    socket.send = (text) => this.#take(socket, JSON.parse(text));
    this.sockets.push(socket);
    this.#answer(socket, { type: "auth_required" });
    return socket;
  };

  get socket() {
    return this.sockets.at(-1);
  }

  say(socket, message) {
    socket.onmessage({ data: JSON.stringify(message) });
  }

  /** As a network does, later. */
  #answer(socket, message) {
    queueMicrotask(() => socket.closed || this.say(socket, message));
  }

  #take(socket, message) {
    socket.sent.push(message);
    const { id, type, since, event_type: types } = message;
    if (type === "auth") {
      this.#answer(socket, { type: "auth_ok" });
    } else if (type === "subscribe_events") {
      const wants = (event) => types === undefined || types.includes(event.event_type);
      socket.subscriptions.set(id, wants);
      this.#answer(socket, { id, type: "result", success: true,
        result: { last_seq: this.events.length, events_lost: false } });
      if (since !== undefined) {
        const missed = this.events.filter((event) => event.seq > since && wants(event));
        this.#answer(socket, missed.map((event) => ({ id, type: "event", event })));
      }
    } else if (type === "unsubscribe_events") {
      socket.subscriptions.delete(message.subscription);
      this.#answer(socket, { id, type: "result", success: true, result: null });
    } else if (type === "ping") {
      this.#answer(socket, { id, type: "pong", last_seq: this.events.length });
    } else if (type === "nodes/list") {
      this.#answer(socket, { id, type: "result", success: false,
        error: { code: "unavailable", message: "no gateway" } });
    } else {
      this.#answer(socket, { id, type: "result", success: true, result: null });
    }
  }

  fire(event_type) {
    const event = { seq: this.events.length + 1, event_type, data: {} };
    this.events.push(event);
    const { closed, subscriptions } = this.socket;
    if (closed) return;
    for (const [id, wants] of subscriptions) {
      if (wants(event)) this.say(this.socket, { id, type: "event", event });
    }
  }

  cut() {
    this.socket.closed = true;
    this.socket.onclose({});
  }
}

/** Everything that was said has come. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

async function connected(t, hub = new Hub()) {
  const live = new Live(hub.open);
  t.after(() => live.stop());
  live.start("secret");
  await settled();
  assert.equal(live.state, "connected");
  return { hub, live };
}

async function back(live) {
  live.retry();
  await settled();
  assert.equal(live.state, "connected");
}

test("after a loss each subscription gets what it missed, once and in order", async (t) => {
  const { hub, live } = await connected(t);
  hub.fire("a");
  const all = [];
  const some = [];
  live.subscribe({ since: 0 }, ({ seq }) => all.push(seq));
  live.subscribe({ event_type: ["b"] }, ({ seq }) => some.push(seq));
  await settled();
  hub.fire("b");
  hub.cut();
  assert.equal(live.state, "lost");
  assert.ok(live.retryAt > Date.now());
  hub.fire("a");
  hub.fire("b");
  await back(live);
  hub.fire("b");
  assert.deepEqual(all, [1, 2, 3, 4, 5]);
  assert.deepEqual(some, [2, 4, 5]);
});

test("an event that comes again is not told again", async (t) => {
  const { hub, live } = await connected(t);
  const told = [];
  live.subscribe({ since: 0 }, ({ seq }) => told.push(seq));
  await settled();
  hub.fire("a");
  const [id] = hub.socket.subscriptions.keys();
  hub.say(hub.socket, { id, type: "event", event: hub.events[0] });
  assert.deepEqual(told, [1]);
});

test("events without a seq are told and change nothing", async (t) => {
  const { hub, live } = await connected(t);
  const told = [];
  live.subscribe({ since: 0 }, ({ event_type: type }) => told.push(type));
  await settled();
  const [id] = hub.socket.subscriptions.keys();
  hub.say(hub.socket, { id, type: "event", event: { event_type: "telemetry", data: {} } });
  hub.fire("a");
  assert.deepEqual(told, ["telemetry", "a"]);
});

test("a pong moves who lets little through ahead, but not who came after the ping", async (t) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    const { hub, live } = await connected(t);
    live.subscribe({ event_type: ["rare"] }, () => {});
    await settled();
    hub.fire("a");
    hub.fire("a");
    mock.timers.tick(5000);
    await settled();
    hub.fire("a");
    live.subscribe({ event_type: ["rare"], since: 0 }, () => {});
    hub.cut();
    await back(live);
    const since = hub.socket.sent.filter(({ type }) => type === "subscribe_events")
      .map((message) => message.since);
    assert.deepEqual(since, [2, 0]);
  } finally {
    mock.timers.reset();
  }
});

test("a hub that answers no ping is lost, and tried again", async (t) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    const { hub, live } = await connected(t);
    hub.socket.send = () => {};
    mock.timers.tick(5000);
    mock.timers.tick(4000);
    assert.equal(live.state, "lost");
    assert.ok(hub.socket.closed);
    mock.timers.tick(1000);
    assert.equal(live.state, "connecting");
    assert.equal(hub.sockets.length, 2);
  } finally {
    mock.timers.reset();
  }
});

test("a hidden page lets go after a while, and resumes", async (t) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    const { hub, live } = await connected(t);
    const told = [];
    live.subscribe({ since: 0 }, ({ seq }) => told.push(seq));
    await settled();
    live.setHidden(true);
    hub.fire("a");
    mock.timers.tick(5000);
    assert.equal(live.state, "paused");
    assert.ok(hub.socket.closed);
    hub.fire("a");
    live.setHidden(false);
    await settled();
    assert.deepEqual([live.state, told], ["connected", [1, 2]]);
  } finally {
    mock.timers.reset();
  }
});

test("commands are answered under their id, and fail with the connection", async (t) => {
  const { hub, live } = await connected(t);
  await assert.rejects(live.command("nodes/list"), { code: "unavailable" });
  hub.socket.send = () => {};
  const waiting = live.command("anything");
  hub.cut();
  await assert.rejects(waiting, /lost/);
  await assert.rejects(live.command("anything"), /not connected/);
});

test("a refused token is told, and not tried again", async (t) => {
  const hub = new Hub();
  const live = new Live(hub.open);
  const told = [];
  live.on("refused", (problem) => told.push(problem));
  t.after(() => live.stop());
  live.start("old");
  hub.say(hub.socket, { type: "auth_invalid", message: "a valid token is needed" });
  assert.deepEqual([told, live.state], [["a valid token is needed"], "idle"]);
});
