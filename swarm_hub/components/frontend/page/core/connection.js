/** What binds the page to its hub: calls of the REST API, who asks, and the stream of events. */

/** Tells whoever listens; the handlers of one name are called in the order in which they came. */
export class Emitter {
  #handlers = new Map();

  /** Calls `handler(value)` at each `emit(name, value)`; returns what ends that. */
  on(name, handler) {
    const known = this.#handlers.get(name) ?? new Set();
    this.#handlers.set(name, known);
    known.add(handler);
    return () => known.delete(handler);
  }

  emit(name, value) {
    for (const handler of [...(this.#handlers.get(name) ?? [])]) {
      try {
        handler(value);
      } catch (error) {
        // One view's fault must not keep the others from hearing.
        console.error(error);
      }
    }
  }
}

// The REST API.

const BASE = "/api/v1";

/** What the hub refused, in its own words; `status` is 0 if it did not answer at all. */
export class ApiError extends Error {
  constructor(status, code, message, errors = []) {
    super(message);
    this.status = status;
    this.code = code;
    this.errors = errors;
  }
}

export const api = {
  token: null,
  /** Called when the hub no longer knows the token. */
  onUnauthorized: () => {},

  get: (path, options) => json("GET", path, options),
  post: (path, body, options) => json("POST", path, { ...options, body: body ?? {} }),
  patch: (path, body, options) => json("PATCH", path, { ...options, body: body ?? {} }),
  delete: (path, options) => json("DELETE", path, options),

  /**
   * Returns the `Response`, whatever its status. `body`: a value for JSON, or what `fetch` sends as
   * it is (Blob, FormData, ArrayBuffer); `query`: an object, of which null and "" are left out.
   */
  async raw(method, path, { query, body, headers, signal } = {}) {
    const own = { ...headers };
    if (api.token !== null) own.Authorization = `Bearer ${api.token}`;
    let sent = body;
    if (body !== undefined && !isRaw(body)) {
      own["Content-Type"] = "application/json";
      sent = JSON.stringify(body);
    }
    try {
      return await fetch(BASE + path + queryText(query), {
        method, headers: own, body: sent, signal, cache: "no-store", credentials: "omit",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, "unreachable", "The hub does not answer. Is it running?");
    }
  },
};

function isRaw(body) {
  return body instanceof Blob || body instanceof FormData || body instanceof ArrayBuffer ||
    ArrayBuffer.isView(body) || typeof body === "string";
}

function queryText(query) {
  const pairs = Object.entries(query ?? {})
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => [name, String(value)]);
  return pairs.length ? `?${new URLSearchParams(pairs)}` : "";
}

async function json(method, path, options) {
  const response = await api.raw(method, path, options);
  // A hub that is not well answers 503 with its health, which has no error's code.
  const content = await response.json().catch(() => null);
  if (response.ok || (response.status === 503 && content !== null && !content.code)) return content;
  const error = asError(response, content);
  if (error.status === 401 && api.token !== null) api.onUnauthorized(error);
  throw error;
}

function asError(response, content) {
  const message = content?.message ?? `The hub answered ${response.status} ${response.statusText}`;
  return new ApiError(response.status, content?.code ?? "unknown", message, content?.errors);
}

/** Returns what a `Response` of `raw` refused as an `ApiError`. */
export async function errorOf(response) {
  return asError(response, await response.json().catch(() => null));
}

/** Has the browser save what `path` (below /api/v1) gives, by a link that works once. */
export async function download(path, filename) {
  const { url } = await api.post("/links", { path: BASE + path });
  const link = document.createElement("a");
  link.href = url;
  link.download = filename ?? "";
  document.body.append(link);
  link.click();
  link.remove();
}

// Who looks at the page, and what they may do.

const KEY = "swarm_hub.token";
const SCOPES = ["read", "submit", "admin"];

class Session extends Emitter {
  token = null;
  name = null;
  scope = null;
  owner = null;
  hub = null;
  revocable = false;
  /** Why there is no session, for the way in. */
  problem = null;

  /** Whether this token may do what needs `scope`. */
  can(scope) {
    return this.scope !== null && SCOPES.indexOf(this.scope) >= SCOPES.indexOf(scope);
  }

  /** Takes the one-time code of the address, else the token of this tab; returns whether it works. */
  async begin() {
    const code = new URLSearchParams(location.hash.slice(1)).get("code");
    if (code !== null) {
      // Before anything else: nobody shall find the code in the history.
      history.replaceState(null, "", location.pathname + location.search);
      try {
        const { token } = await api.post("/sessions", { code });
        return await this.#resume(token);
      } catch (error) {
        this.problem = error.message;
      }
    }
    const kept = sessionStorage.getItem(KEY);
    return kept !== null && this.#resume(kept);
  }

  /** Takes a token that the hub gave this page: what needs one need not wait for the answer. */
  #resume(token) {
    const entered = this.enter(token);
    this.emit("begin");
    return entered;
  }

  /** Takes a token; returns whether the hub knows it. */
  async enter(token) {
    api.token = token;
    try {
      const { name, scope, owner, hub, revocable } = await api.get("/sessions/current");
      Object.assign(this, { token, name, scope, owner, hub, revocable, problem: null });
      sessionStorage.setItem(KEY, token);
      return true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      api.token = null;
      if (error.status === 401) sessionStorage.removeItem(KEY);
      this.problem = error.message;
      return false;
    }
  }

  /** Forgets the token, and tells why. */
  end(problem) {
    sessionStorage.removeItem(KEY);
    api.token = null;
    Object.assign(this, { token: null, name: null, scope: null, owner: null, problem });
    this.emit("end", problem);
  }
}

export const session = new Session();
api.onUnauthorized = (error) => session.end(error.message);

/** Ends the session, also at the hub, if the token was made for it. */
export async function logout() {
  if (session.revocable) {
    await api.delete("/sessions/current").catch(() => {});
  }
  session.end(null);
}

// The websocket, which comes back by itself. Each subscription remembers the newest `seq` up to which
// it has everything, and asks for what came after it when the connection is back: no event is
// missing, none comes twice.

const PING_EVERY_MS = 5000;
const PONG_WITHIN_MS = 4000;
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
