/** What an administrator does with a node. */
import { api, session } from "../core/connection.js";
import { ask, attempt, confirm, prompt } from "../core/dialog.js";
import { h } from "../core/dom.js";
import { store } from "../core/store.js";
import { labelsOf } from "../core/submission.js";

const FOR = [["", "without end"], ["3600", "1 h"], ["86400", "1 day"], ["604800", "7 days"]];

const named = (node) => node.name || node.node_id;

/** The buttons that fit a node's state; none for who is no administrator. */
export function nodeActions(node) {
  if (!session.can("admin")) return [];
  const isDrained = node.drain_reason !== null;
  const isBanned = node.state === "banned";
  return [
    node.state === "pending" && button("Approve", () => approve(node), "button-primary"),
    !isBanned && !isDrained && node.state !== "pending" && button("Drain", () => drain(node)),
    isDrained && button("Undrain", () => act(node, "undrain", {}, "gets work again")),
    button("Labels", () => label(node)),
    !isBanned && button("Ban", () => ban(node), "button-danger"),
    isBanned && button("Unban", () => unban(node)),
  ].filter(Boolean);
}

function button(text, onclick, kind = "") {
  return h("button.button.button-small", { class: kind, onclick }, text);
}

async function act(node, verb, body, done) {
  const answer = await attempt(() => api.post(`/nodes/${node.node_id}/${verb}`, body),
    `${named(node)} ${done}`);
  if (answer?.name) store.putNode(answer);
  else if (answer) await store.loadNodes();
}

const approve = (node) => act(node, "approve", {}, "is admitted");

async function drain(node) {
  const reason = await prompt(`Drain ${named(node)}?`, { label: "Reason", action: "Drain",
    detail: "It gets no new work, gives back what it has not begun, and finishes the rest." });
  if (reason !== null) await act(node, "drain", { reason }, "gets no more work");
}

async function label(node) {
  const before = Object.entries(node.labels).map((pair) => pair.join("=")).join(", ");
  const text = await prompt(`Labels of ${named(node)}`, { label: "Such as gpu=yes, place=attic",
    value: before, action: "Set", maxlength: 4000,
    detail: "Jobs may ask for nodes with some. What its own configuration says comes back." });
  if (text === null) return;
  const wanted = await attempt(async () => labelsOf(text));
  if (wanted === undefined) return;
  const gone = Object.keys(node.labels).filter((name) => !(name in wanted));
  const labels = { ...wanted, ...Object.fromEntries(gone.map((name) => [name, null])) };
  if (Object.keys(labels).length) await act(node, "label", { labels }, "has new labels");
}

async function unban(node) {
  const isSure = await confirm(`Lift the ban of ${named(node)}?`, { action: "Unban",
    detail: "It may come back, also with a new signing key." });
  if (isSure) await act(node, "unban", {}, "may come back");
}

async function ban(node) {
  const form = await ask(`Ban ${named(node)}?`, [
    h("p.muted", "It is disconnected, and its shards go to others."),
    h("label.field", h("span", "Reason"), h("input", { name: "reason", maxlength: 200 })),
    h("label.field", h("span", "For"), h("select", { name: "for" },
      FOR.map(([value, text]) => h("option", { value }, text)))),
  ], "Ban", true);
  if (form === null) return;
  const seconds = form.get("for");
  await act(node, "ban", { reason: form.get("reason"), for_s: seconds ? Number(seconds) : null },
    "is banned");
}
