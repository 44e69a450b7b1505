/** What states look like: each has a colour and a word. */
import { h } from "../core/dom.js";

const KINDS = {
  up: "ok", draining: "warn", drained: "warn", down: "", banned: "bad", pending: "info",
  approved: "info", queued: "warn", running: "info", completed: "ok", failed: "bad", cancelled: "",
  open: "info", used: "ok", expired: "",
};

/** A state as a badge; `kind` if it is none of those above. */
export function badge(state, kind = KINDS[state] ?? "") {
  return h("span.badge", { class: kind && `badge-${kind}` }, state);
}

/** Names and what they are; those of null are left out. */
export const facts = (pairs) => h("dl.facts", pairs.filter(([, value]) => value !== null)
  .map(([name, value]) => [h("dt", name), h("dd", value)]));
