/** Who looks at the page, and what they may do. */
import { api, ApiError } from "./api.js";
import { Emitter } from "./emitter.js";

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
        return await this.enter(token);
      } catch (error) {
        this.problem = error.message;
      }
    }
    const kept = sessionStorage.getItem(KEY);
    return kept !== null && this.enter(kept);
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
