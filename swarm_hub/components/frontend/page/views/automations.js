/** Automations: what each does, how its last run went; of the chosen one, its traces. */
import { api, session } from "../core/connection.js";
import { attempt } from "../core/dialog.js";
import { badge, h, link, query, renew, replace, route, View } from "../core/dom.js";
import { timeElement } from "../core/format.js";
import "../parts/table.js";

const RUNS = { done: "ok", failed: "bad", refused: "warn", open: "info" };
const EVERY_S = 5;

const run = ({ state, created_at: at }) => [badge(state, RUNS[state]), " ", timeElement(at)];

class Automations extends View {
  #notices = h("div.stack.tight", { "aria-live": "polite" });
  #table = h("hub-table");
  #one = h("section.card.stack", { hidden: true, tabindex: -1, "aria-label": "Traces" });
  #listed = [];

  render() {
    replace(this, h("div.head", h("h1", { tabindex: -1 }, "Automations")),
      h("div.stack", this.#notices,
        h("section.card.flush", { "aria-label": "Automations" }, this.#table), this.#one));
    this.#table.label = "Automations";
    const isAdmin = session.can("admin");
    this.#table.columns = [
      { id: "alias", title: "Automation", head: true, value: ({ alias }) => alias,
        cell: ({ id, alias }) => (isAdmin ? link("/automations", alias, { id }) : alias) },
      { id: "actions", title: "Does", value: ({ actions }) => actions.join(", ") },
      { id: "last", title: "Last run", value: ({ last_run: last }) => last?.created_at ?? "",
        cell: ({ last_run: last }) => h("span", last ? run(last) : "never") },
      { id: "enabled", title: "Enabled", value: ({ enabled }) => (enabled ? "yes" : "no") },
      { id: "waiting", title: "Waiting", value: ({ waiting }) => waiting, numeric: true },
    ];
    this.every(EVERY_S, () => this.#load());
  }

  async queryChanged() {
    await this.#load();
    this.#one.focus();
  }

  async #load() {
    const asked = { signal: this.signal };
    const found = await api.get("/automations", asked).catch((error) => ({ error }));
    if (this.signal.aborted) return;
    const { automations = [], notices = [], error } = found;
    this.#table.empty = h("p", error ? `${error.message}.`
      : "No automations yet. List them below automation: in configuration.yaml.");
    this.#table.rows = this.#listed = automations;
    renew(this.#notices, notices.map(({ automation, at, message }) =>
      h("p.notice.notice-warn", h("strong", automation), ` ${message} `, timeElement(at))));
    const { id } = query();
    const one = this.#listed.find((each) => each.id === id);
    if (!one || !session.can("admin")) return;
    const told = await api.get(`/automations/${id}/traces`, asked).catch(() => null);
    if (told !== null) this.#draw(one, told.traces);
  }

  #draw({ alias, enabled }, traces) {
    this.#one.hidden = false;
    // Buttons stay when they are drawn anew, and so do their listeners.
    const post = async (ways, said) => {
      const { id, enabled: is } = this.#listed.find((each) => each.id === query().id);
      await attempt(() => api.post(`/automations/${id}/${ways[Number(is)]}`, {}), said);
      this.#load();
    };
    const button = (text, ...asked) => h("button.button.button-small",
      { onclick: () => post(...asked) }, text);
    renew(this.#one, h("h2", alias), h("div.row",
      button("Trigger", ["trigger", "trigger"], "It was triggered"),
      button(enabled ? "Disable" : "Enable", ["enable", "disable"])),
    traces.length === 0 && h("p", "It was not triggered yet."), traces.map(trace));
  }
}

function trace({ trigger, said, steps, ...each }) {
  const job = trigger.job_id;
  return h("div", h("p", run(each), ` ${trigger.event_type ?? trigger.kind} `,
    job && link(`/jobs/${job}`, job), said && ` ${said}`),
  h("ul.list", steps.map(({ kind, state, tries, said: text }) =>
    h("li", badge(state, RUNS[state]), ` ${kind} ${tries ? `(tried ${tries}×) ` : ""}${text}`))));
}

customElements.define("hub-automations", Automations);
route("/automations", "hub-automations", "Automations");
