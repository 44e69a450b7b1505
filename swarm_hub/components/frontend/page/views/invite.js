/** Invitations: make one, see who used which, revoke. */
import { api, session } from "../core/connection.js";
import { attempt, confirm } from "../core/dialog.js";
import { badge, h, replace, route, View } from "../core/dom.js";
import { timeElement } from "../core/format.js";
import { nodeLink, store } from "../core/store.js";
import { inviteButton } from "../parts/invitation.js";
import "../parts/table.js";

const HOURS = [[1, "1 h"], [24, "1 day"], [168, "7 days"], [720, "30 days"]];

class Invite extends View {
  #table = h("hub-table");

  render() {
    const hours = h("select", { name: "hours" },
      HOURS.map(([value, text]) => h("option", { value }, text)));
    const owner = h("input", { name: "owner", maxlength: 64, autocomplete: "off",
      placeholder: "nobody in particular" });
    replace(this, h("div.head", h("h1", { tabindex: -1 }, "Invite")), h("div.stack",
      h("section.card.stack", h("h2", "Invite a node"),
        session.can("admin") && h("div.grid.narrow",
          h("label.field", h("span", "Valid for"), hours),
          h("label.field", h("span", "Whose device"), owner)),
        inviteButton({ owner: () => owner.value.trim(), hours: () => Number(hours.value),
          made: () => this.#load() })),
      h("section.card.flush", { "aria-label": "Invitations" }, this.#table)));
    this.#table.label = "Invitations";
    this.#table.empty = h("p", "No invitations yet; each that is made is listed here.");
    this.#table.columns = [
      { id: "id", title: "Invitation", head: true, value: ({ id }) => id,
        cell: ({ id }) => h("code", id) },
      { id: "state", title: "State", value: ({ state }) => state,
        cell: ({ state }) => badge(state) },
      { id: "made", title: "Made", value: ({ created_at: at }) => at,
        cell: ({ created_at: at }) => timeElement(at) },
      { id: "ends", title: "Ends", value: ({ expires_at: at }) => at,
        cell: ({ expires_at: at }) => timeElement(at) },
      { id: "owner", title: "Owner", value: ({ owner: whose }) => whose },
      { id: "by", title: "Used by", value: ({ used_by: by }) => by,
        cell: ({ used_by: by }) => (by ? nodeLink(by) : "") },
      session.can("admin") && { id: "revoke", title: "Action", value: () => "",
        cell: (invitation) => (invitation.state === "open" ? this.#revoke(invitation) : "") },
    ].filter(Boolean);
    // Who is admitted by one comes as a node.
    this.on(store, "nodes", (one) => one === undefined && this.#load());
    this.#load();
  }

  #revoke({ id }) {
    return h("button.button.button-small.button-danger", { onclick: async () => {
      const isSure = await confirm("Revoke this invitation?", { action: "Revoke", danger: true,
        detail: "Nobody is admitted by it any more; who was, stays." });
      if (!isSure) return;
      await attempt(() => api.delete(`/invites/${id}`), "The invitation is revoked");
      this.#load();
    } }, "Revoke");
  }

  async #load() {
    const found = await api.get("/invites", { signal: this.signal }).catch(() => null);
    if (found !== null) this.#table.rows = found.invites;
  }
}

customElements.define("hub-invite", Invite);
route("/invite", "hub-invite", "Invite");
