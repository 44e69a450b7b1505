/**
 * The hub's events, over one websocket that comes back by itself.
 *
 * Each subscription remembers the newest `seq` up to which it has everything, and asks for what
 * came after it when the connection is back: no event is missing, none comes twice.
 */
import { Emitter } from "./emitter.js";

const PING_EVERY_MS = 20_000;
const PONG_WITHIN_MS = 10_000;
const RETRY_MS = [1000, 2000, 4000, 8000, 15_000];
const HIDDEN_AFTER_MS = 5000;

export class Live extends Emitter {
  /** "idle" (no session), "connecting", "connected", "lost" or "paused" (the tab is hidden). */
  state = "idle";
  /** When the next attempt is made, in milliseconds as `Date.now()`; null while there is none. */
  retryAt = null;

  #socket = null;
  #open;
  #token = null;
  #nextId = 1;
  #attempts = 0;
  #retryTimer = null;
  #pingTimer = null;
  #pongTimer = null;
  #hideTimer = null;
  #subscriptions = new Set();
  #byId = new Map();
  #answers = new Map();

  /** `open()` returns a new WebSocket. */
  constructor(open = openSocket) {
    super();
    this.#open = open;
  }

  /** Connects with a token and stays connected until `stop`. */
  start(token) {
    this.#token = token;
    this.#connect();
  }

  stop() {
    this.#token = null;
    this.#drop("idle");
  }

  /** Tries again now. */
  retry() {
    if (this.state === "lost") this.#connect();
  }

  /** Calls `handler(state)` at each change; returns what ends that. */
  onState(handler) {
    return this.on("state", handler);
  }

  /**
   * Calls `handler(event)` for each event that `filter` lets through (`event_type`, `job_id`,
   * `node_id`, `label`, `since`); returns what ends that. `onReady({last_seq, events_lost})` is
   * called each time that the hub has taken the subscription, `onError(error)` if it does not.
   * `command` is another one that begins a subscription, such as "telemetry/subscribe".
   */
  subscribe(filter, handler, { command = "subscribe_events", onReady, onError } = {}) {
    const { since, ...wanted } = filter;
    const subscription = {
      command, wanted, handler, onReady, onError, seq: since ?? null, id: null, ready: false,
    };
    this.#subscriptions.add(subscription);
    if (this.state === "connected") this.#begin(subscription);
    return () => this.#end(subscription);
  }

  /** Sends a command of the websocket; resolves with its result. */
  command(type, content = {}) {
    if (this.state !== "connected") return Promise.reject(new Error("The hub is not connected"));
    return new Promise((resolve, reject) => {
      this.#answers.set(this.#send({ ...content, type }), { resolve, reject });
    });
  }

  /** Lets go of the hub while nobody looks. */
  setHidden(hidden) {
    clearTimeout(this.#hideTimer);
    if (hidden && this.#token !== null) {
      this.#hideTimer = setTimeout(() => this.#drop("paused"), HIDDEN_AFTER_MS);
    } else if (!hidden && this.state === "paused") {
      this.#connect();
    }
  }

  #connect() {
    clearTimeout(this.#retryTimer);
    this.#setState("connecting");
    const socket = this.#open();
    this.#socket = socket;
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      const content = JSON.parse(data);
      for (const message of Array.isArray(content) ? content : [content]) this.#receive(message);
    };
    socket.onclose = () => {
      if (socket === this.#socket) this.#lost();
    };
  }

  #drop(state) {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#hideTimer);
    const socket = this.#socket;
    this.#forget();
    socket?.close();
    this.#setState(state);
  }

  #forget() {
    clearTimeout(this.#pingTimer);
    clearTimeout(this.#pongTimer);
    this.#socket = null;
    this.#byId.clear();
    for (const { reject } of this.#answers.values()) reject(new Error("The connection was lost"));
    this.#answers.clear();
    for (const subscription of this.#subscriptions) subscription.ready = false;
  }

  #lost() {
    this.#forget();
    const wait = RETRY_MS[Math.min(this.#attempts, RETRY_MS.length - 1)];
    this.#attempts += 1;
    this.retryAt = Date.now() + wait;
    this.#retryTimer = setTimeout(() => this.#connect(), wait);
    this.#setState("lost");
  }

  #setState(state) {
    if (state !== "lost") this.retryAt = null;
    this.state = state;
    this.emit("state", state);
  }

  #send(message) {
    const id = this.#nextId++;
    this.#socket.send(JSON.stringify({ id, ...message }));
    return id;
  }

  #receive(message) {
    switch (message.type) {
      case "auth_required":
        this.#socket.send(JSON.stringify({ type: "auth", access_token: this.#token }));
        break;
      case "auth_ok":
        this.#authenticated();
        break;
      case "auth_invalid":
        this.stop();
        this.emit("refused", message.message);
        break;
      case "event":
        this.#event(message);
        break;
      case "pong":
        this.#pong(message);
        break;
      case "result":
        this.#result(message);
        break;
    }
  }

  #authenticated() {
    this.#nextId = 1;
    this.#attempts = 0;
    this.#send({ type: "supported_features", features: { coalesce_messages: 1 } });
    // Who subscribes when told of the new state is begun by `subscribe`, the others here.
    for (const subscription of this.#subscriptions) this.#begin(subscription);
    this.#pingLater();
    this.#setState("connected");
  }

  #begin(subscription) {
    const fields = { ...subscription.wanted };
    if (subscription.seq !== null) fields.since = subscription.seq;
    subscription.id = this.#send({ ...fields, type: subscription.command });
    this.#byId.set(subscription.id, subscription);
  }

  #end(subscription) {
    this.#subscriptions.delete(subscription);
    if (this.#byId.delete(subscription.id)) {
      this.#send({ type: "unsubscribe_events", subscription: subscription.id });
    }
  }

  #event({ id, event }) {
    const subscription = this.#byId.get(id);
    if (subscription === undefined) return;
    const seq = event.seq ?? null;
    if (seq !== null) {
      if (subscription.seq !== null && seq <= subscription.seq) return;
      subscription.seq = seq;
    }
    try {
      subscription.handler(event);
    } catch (error) {
      console.error(error);
    }
  }

  #result({ id, success, result, error }) {
    const subscription = this.#byId.get(id);
    if (subscription !== undefined) {
      this.#begun(subscription, success, result, error);
      return;
    }
    const answer = this.#answers.get(id);
    this.#answers.delete(id);
    if (success) answer?.resolve(result);
    else answer?.reject(Object.assign(new Error(error.message), { code: error.code }));
  }

  #begun(subscription, success, result, error) {
    if (success) {
      subscription.ready = true;
      // Telemetry has no seq, and its subscription takes no `since`.
      if (subscription.command !== "telemetry/subscribe") subscription.seq ??= result.last_seq;
      subscription.onReady?.(result);
      return;
    }
    this.#byId.delete(subscription.id);
    this.#subscriptions.delete(subscription);
    if (subscription.onError) subscription.onError(error);
    else console.warn(`${subscription.command}: ${error.message}`);
  }

  #pingLater() {
    this.#pingTimer = setTimeout(() => {
      const id = this.#send({ type: "ping" });
      this.#pongTimer = setTimeout(() => {
        const socket = this.#socket;
        this.#lost();
        socket.close();
      }, PONG_WITHIN_MS);
      this.emit("ping", id);
    }, PING_EVERY_MS);
  }

  #pong({ id, last_seq: lastSeq }) {
    clearTimeout(this.#pongTimer);
    // It speaks of the subscriptions that there were when the hub read the ping.
    if (Number.isInteger(lastSeq)) {
      for (const subscription of this.#byId.values()) {
        const { ready, seq } = subscription;
        if (ready && subscription.id < id && seq !== null && seq < lastSeq) {
          subscription.seq = lastSeq;
        }
      }
    }
    this.#pingLater();
  }
}

function openSocket() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  return new WebSocket(`${scheme}//${location.host}/api/websocket`);
}

export const live = new Live();

if (typeof document !== "undefined") {
  document.addEventListener("visibilitychange", () => live.setHidden(document.hidden));
  addEventListener("online", () => live.retry());
}
