/** Automations: what each does, how its last run went, and its traces. */
import { api, session } from "../core/connection.js";
import { attempt } from "../core/dialog.js";
import { badge, h, link, renew, replace, route, View } from "../core/dom.js";
import { timeElement } from "../core/format.js";
import "../parts/table.js";

const RUNS = { done: "ok", failed: "bad", refused: "warn", open: "info" };
const EVERY_S = 5;

const run = ({ state, created_at: at }) => [badge(state, RUNS[state]), " ", timeElement(at)];

class Automations extends View {
  #notices = h("ul.list", { "aria-live": "polite" });
  #table = h("hub-table");
  #traces = h("section.card.stack", { hidden: true, tabindex: -1, "aria-label": "Traces" });
  #chosen = null;
  // Buttons stay when a row is drawn anew.
  #enabled = new Map();

  render() {
    replace(this, h("div.head", h("h1", { tabindex: -1 }, "Automations")),
      h("div.stack", this.#notices,
        h("section.card.flush", { "aria-label": "Automations" }, this.#table), this.#traces));
    this.#table.label = "Automations";
    this.#table.columns = [
      { id: "alias", title: "Automation", head: true, value: ({ alias }) => alias },
      { id: "actions", title: "Does", value: ({ actions }) => actions.join(", ") },
      { id: "last", title: "Last run", value: ({ last_run: last }) => last?.created_at ?? "",
        cell: ({ last_run: last }) => h("span", last ? run(last) : "never") },
      { id: "waiting", title: "Waiting", value: ({ waiting }) => waiting, numeric: true },
      session.can("admin") && { id: "act", title: "Action", value: () => "",
        cell: (each) => this.#buttons(each) },
    ].filter(Boolean);
    this.every(EVERY_S, () => this.#load());
  }

  #buttons({ id, alias, enabled }) {
    const button = (text, onclick) => h("button.button.button-small",
      { onclick, "aria-label": `${text} ${alias}` }, text);
    const post = async (way, said) => {
      await attempt(() => api.post(`/automations/${id}/${way}`, {}), said);
      this.#load();
    };
    return h("div.row", button("Trigger", () => post("trigger", `${alias} was triggered`)),
      button(enabled ? "Disable" : "Enable",
        () => post(this.#enabled.get(id) ? "disable" : "enable")),
      button("Traces", async () => {
        this.#chosen = { id, alias };
        await this.#load();
        this.#traces.focus();
      }));
  }

  async #load() {
    const asked = { signal: this.signal };
    const found = await api.get("/automations", asked).catch((error) => ({ error }));
    if (this.signal.aborted) return;
    const { automations = [], notices = [], error } = found;
    this.#table.empty = h("p", error ? `${error.message}.`
      : "No automations yet. List them below automation: in configuration.yaml.");
    this.#enabled = new Map(automations.map(({ id, enabled }) => [id, enabled]));
    this.#table.rows = automations;
    renew(this.#notices, notices.map(({ automation, at, message }) =>
      h("li.notice.notice-warn", h("strong", automation), ` ${message} `, timeElement(at))));
    if (this.#chosen === null) return;
    const { id, alias } = this.#chosen;
    const told = await api.get(`/automations/${id}/traces`, asked).catch(() => null);
    if (told === null) return;
    this.#traces.hidden = false;
    renew(this.#traces, h("h2", `Traces of ${alias}`),
      told.traces.length === 0 && h("p", "It was not triggered yet."), told.traces.map(trace));
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
