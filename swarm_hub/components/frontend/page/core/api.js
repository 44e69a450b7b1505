/** Calls of the hub's REST API. */
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
