/** All jobs: found by state, label, owner and text, and changed many at a time. */
import { api, session } from "../core/connection.js";
import { attempt, confirm } from "../core/dialog.js";
import { address, badge, h, link, query, replace, route, setQuery, setText, View } from
  "../core/dom.js";
import { count, duration, percent, shortId, timeElement } from "../core/format.js";
import { store } from "../core/store.js";
import { labelsOf } from "../core/submission.js";
import { button, column, newKey, soon, stylesheet, tags } from "../parts/job_words.js";
import "../parts/table.js";

const PAGE = 100;
const AT_ONCE = 500;
const TYPED_MS = 300;
const SOON_MS = 500;
const STATES = ["queued", "running", "completed", "failed", "cancelled"];
const place = (job) => `/jobs/${encodeURIComponent(job.job_id)}`;
const shareOf = ({ progress: { items, items_done: done } }) =>
  items ? (100 * done) / items : null;
const COLUMNS = [
  column("name", "Job", { head: true, value: (job) => job.name ?? job.job_id,
    cell: (name, job) => link(place(job), name ?? shortId(job.job_id)) }),
  column("state", "State", { cell: (state) => badge(state) }),
  column("progress", "Done", { numeric: true, value: shareOf,
    cell: ({ items, items_failed: bad }, job) =>
      `${percent(shareOf(job))} of ${count(items)}${bad ? `, ${count(bad)} failed` : ""}` }),
  column("created_at", "Submitted", { cell: (at) => timeElement(at) }),
  column("duration_s", "Took", { numeric: true, cell: duration }),
  column("owner", "Owner"),
  column("labels", "Labels", { value: (job) => Object.entries(job.labels).join(), cell: tags }),
];

class Jobs extends View {
  #jobs = new Map();
  #cursor = null;
  #asked = 0;
  #typing = null;
  #table = h("hub-table");
  #more = button("Show more", () => this.#load(this.#cursor));
  #problem = h("p.notice.notice-bad", { hidden: true, role: "alert" });
  #chosen = h("div.toolbar", { hidden: true, role: "region", "aria-label": "Selected jobs" });
  #fields = {};
  #drawSoon = soon(this, SOON_MS, () => this.#draw());
  #loadSoon = soon(this, SOON_MS, () => this.#load(null, true));

  render() {
    stylesheet();
    const typed = () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#filtered(), TYPED_MS);
    };
    const field = (label, placeholder, kind = "") => h(`input${kind}`,
      { type: "search", "aria-label": label, placeholder, oninput: typed, maxlength: 200 });
    this.#fields = {
      state: h("select", { "aria-label": "State", onchange: () => this.#filtered() },
        h("option", { value: "" }, "every state"),
        h("option", { value: "queued,running" }, "unfinished"),
        STATES.map((state) => h("option", state))),
      text: field("Text", "id, name or label", ".search"),
      label: field("Labels", "label=value"),
      owner: field("Owner", "owner"),
    };
    replace(this,
      h("div.head", h("h1", { tabindex: -1 }, "Jobs"), session.can("submit") &&
        h("a.button.button-primary", { href: "#/submit" }, "Submit a job")),
      h("div.toolbar", Object.values(this.#fields)),
      this.#problem, this.#chosen, h("div.card.flush", this.#table),
      h("div.row.jobs-more", this.#more));
    this.#more.hidden = true;
    this.#table.label = "Jobs";
    this.#table.rowKey = (job) => job.job_id;
    this.#table.href = (job) => address(place(job));
    this.#table.selectable = session.can("submit");
    this.#table.columns = COLUMNS;
    this.on(this.#table, "select", () => this.#drawChosen());
    this.on(store, "jobs", (id) => this.#known(id));
    this.whenGone(() => clearTimeout(this.#typing));
    this.queryChanged(query());
  }

  /** Takes the filters of the address. */
  queryChanged(asked) {
    for (const [name, element] of Object.entries(this.#fields)) {
      if (element !== document.activeElement) element.value = asked[name] ?? "";
    }
    this.#load(null);
  }

  #filtered() {
    setQuery(Object.fromEntries(
      Object.entries(this.#fields).map(([name, { value }]) => [name, value.trim()])));
    this.#load(null);
  }

  // The first page again keeps what older pages brought.
  async #load(cursor, isAgain = false) {
    const asked = isAgain ? this.#asked : (this.#asked += 1);
    const asks = { state: query().state, text: query().text, owner: query().owner };
    let page;
    try {
      for (const [name, value] of Object.entries(labelsOf(query().label ?? ""))) {
        asks[`label.${name}`] = value;
      }
      page = await api.get("/jobs",
        { query: { ...asks, cursor, limit: PAGE }, signal: this.signal });
    } catch (error) {
      if (error.name === "AbortError" || asked !== this.#asked) return;
      setText(this.#problem, error.message);
      this.#problem.hidden = false;
      return;
    }
    if (asked !== this.#asked) return;
    this.#problem.hidden = true;
    const found = page.jobs.map((job) => [job.job_id, job]);
    const oldest = page.jobs.at(-1)?.job_id;
    const older = [...this.#jobs].filter(([id]) => page.cursor !== null && id < oldest);
    this.#jobs = isAgain ? new Map([...found, ...older])
      : new Map([...(cursor === null ? [] : this.#jobs), ...found]);
    if (!isAgain || older.length === 0) this.#cursor = page.cursor;
    this.#draw();
  }

  #known(id) {
    if (id === undefined) this.#loadSoon();
    else if (this.#jobs.has(id) && store.jobs.has(id)) {
      this.#jobs.set(id, store.jobs.get(id));
      this.#drawSoon();
    }
  }

  #draw() {
    const isFiltered = Object.values(this.#fields).some(({ value }) => value !== "");
    this.#table.empty = isFiltered
      ? [h("strong", "No job fits"), h("a", { href: "#/jobs" }, "Show all jobs")]
      : [h("strong", "No jobs yet"), h("p", "Drop a module on ", link("/submit", "Submit"),
        ", or type ", h("code", "swarm-hub submit MODULE DATA"))];
    this.#table.rows = this.#jobs.values();
    this.#more.hidden = this.#cursor === null;
    this.#drawChosen();
  }

  #drawChosen() {
    const ids = [...this.#table.selected].filter((id) => this.#jobs.has(id));
    this.#chosen.hidden = ids.length === 0;
    replace(this.#chosen,
      h("strong", `${count(ids.length, "jobs")} selected`),
      button("Submit again", () => this.#again(ids)),
      button("Cancel", () => this.#cancel(ids), ".button-danger"),
      button("Clear", () => {
        this.#table.selected = [];
      }));
  }

  async #cancel(ids) {
    const isSure = await confirm(`Cancel ${count(ids.length, "jobs")}?`, { danger: true,
      action: "Cancel them", detail: "Jobs that have ended stay as they are." });
    if (!isSure) return;
    await this.#change(async () => {
      for (let at = 0; at < ids.length; at += AT_ONCE) {
        await api.post("/jobs/cancel", { ids: ids.slice(at, at + AT_ONCE) });
      }
    }, "They are cancelled");
  }

  async #again(ids) {
    if (ids.length > 1 && !(await confirm(`Submit ${count(ids.length, "jobs")} again?`))) return;
    await this.#change(async () => {
      for (const id of ids) {
        await api.post(`/jobs/${id}/resubmit`, {}, { headers: { "Idempotency-Key": newKey() } });
      }
    }, "They are submitted again");
  }

  async #change(work, done) {
    await attempt(work, done);
    this.#table.selected = [];
    this.#load(null, true);
  }
}

customElements.define("hub-jobs", Jobs);
route("/jobs", "hub-jobs", "Jobs");
