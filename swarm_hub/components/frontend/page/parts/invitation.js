/** Makes an invitation, and shows it as a link, a QR code and the line to type. */
import { api, session } from "../core/connection.js";
import { attempt, toast } from "../core/dialog.js";
import { h, replace } from "../core/dom.js";
import { timeElement } from "../core/format.js";
import { qr } from "./qr.js";

/** A button that makes an invitation and shows it in its place; `made()` is called then. */
export function inviteButton({ owner = () => null, hours = () => 1, made = () => {} } = {}) {
  const place = h("div.invitation");
  const button = h("button.button.button-primary", { onclick: async () => {
    button.disabled = true;
    const invitation = await attempt(() => api.post("/invites",
      { expires_s: hours() * 3600, owner: owner() || null, qr: true }));
    button.disabled = false;
    if (!invitation) return;
    replace(place, shown(invitation));
    made(invitation);
  } }, "Make an invitation");
  return session.can("admin") ? h("div.stack", h("div", button), place)
    : h("p", "Somebody with an admin token makes invitations, here or with ",
      h("code", "swarm-hub invite"), ".");
}

function shown({ link, qr: rows, expires_at: expires }) {
  return h("div.row.top", { role: "status" },
    rows && qr(rows, "The invitation as a QR code"),
    h("div.stack.grow",
      h("p", "On the new device, with swarm_hub installed, type"),
      line(`swarm-hub join ${link}`),
      h("p", "or, where it is not installed yet, in a clone of its repository:"),
      line(`bash install.sh ${link}`),
      h("p.muted.small", "It admits one node, once, and ends ", timeElement(expires), ".")));
}

/** A line to type, with a button that copies it. */
export function line(text) {
  return h("div.command", h("code.grow.cut", { tabindex: 0, title: text }, text),
    h("button.button.button-small", { onclick: () => copy(text) }, "Copy"));
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied", "ok");
  } catch {
    toast("This browser does not let the page copy; select the text instead", "warn");
  }
}
