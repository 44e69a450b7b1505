/** All jobs: found by state, label, owner and text, and changed many at a time. */
import { api } from "../core/api.js";
import { attempt, confirm } from "../core/dialog.js";
import { View, h, replace, setText } from "../core/dom.js";
import { count, duration, percent, shortId, timeElement } from "../core/format.js";
import { format, link, query, route, setQuery } from "../core/router.js";
import { session } from "../core/session.js";
import { labelsOf } from "../core/submission.js";
import { store } from "../core/store.js";
import { newKey, stylesheet } from "../parts/job_words.js";
import { badge } from "../parts/states.js";
import "../parts/table.js";

const PAGE = 100;
const STATES = ["queued", "running", "completed", "failed", "cancelled"];
const TYPED_MS = 300;
const SOON_MS = 500;
const place = (job) => `/jobs/${encodeURIComponent(job.job_id)}`;
const shareOf = ({ progress: { items, items_done: done } }) =>
  items ? (100 * done) / items : null;

class Jobs extends View {
  #jobs = new Map();
  #cursor = null;
  #asked = 0;
  #timers = new Map();
  #table = h("hub-table");
  #more = h(
    "button.button",
    { type: "button", hidden: true, onclick: () => this.#load(this.#cursor) },
    "Show more",
  );
  #problem = h("p.notice.notice-bad", { hidden: true, role: "alert" });
  #chosen = h("div.toolbar", { hidden: true, role: "region", "aria-label": "Selected jobs" });
  #fields = {};

  render() {
    stylesheet();
    const typed = () => this.#later("typed", TYPED_MS, () => this.#filtered());
    const field = (name, label, hint) => {
      this.#fields[name] = h("input", {
        class: name === "text" ? "search" : "",
        type: "search",
        "aria-label": label,
        placeholder: hint,
        oninput: typed,
        maxlength: 200,
      });
      return this.#fields[name];
    };
    this.#fields.state = h(
      "select",
      { "aria-label": "State", onchange: () => this.#filtered() },
      h("option", { value: "" }, "every state"),
      h("option", { value: "queued,running" }, "unfinished"),
      STATES.map((state) => h("option", state)),
    );
    replace(
      this,
      h(
        "div.head",
        h("h1", { tabindex: -1 }, "Jobs"),
        session.can("submit") && h("a.button.button-primary", { href: "#/submit" }, "Submit a job"),
      ),
      h(
        "div.toolbar",
        this.#fields.state,
        field("text", "Text", "id, name or label"),
        field("label", "Labels", "label=value"),
        field("owner", "Owner", "owner"),
      ),
      this.#problem,
      this.#chosen,
      h("div.card.flush", this.#table),
      h("div.row.jobs-more", this.#more),
    );
    this.#table.label = "Jobs";
    this.#table.rowKey = (job) => job.job_id;
    this.#table.href = (job) => format(place(job));
    this.#table.selectable = session.can("submit");
    this.#table.columns = COLUMNS;
    this.on(this.#table, "select", () => this.#drawChosen());
    this.on(store, "jobs", (id) => this.#known(id));
    this.whenGone(() => this.#timers.forEach(clearTimeout));
    this.queryChanged(query());
  }

  /** Takes the filters of the address. */
  queryChanged(asked) {
    for (const [name, element] of Object.entries(this.#fields)) {
      if (element !== document.activeElement) element.value = asked[name] ?? "";
    }
    this.#load(null);
  }

  #later(name, wait, work) {
    if (name === "typed") clearTimeout(this.#timers.get(name));
    else if (this.#timers.has(name)) return;
    this.#timers.set(
      name,
      setTimeout(() => {
        this.#timers.delete(name);
        work();
      }, wait),
    );
  }

  #filtered() {
    setQuery(
      Object.fromEntries(
        Object.entries(this.#fields).map(([name, { value }]) => [name, value.trim()]),
      ),
    );
    this.#load(null);
  }

  #query() {
    const { state, text, label, owner } = query();
    const labels = Object.entries(labelsOf(label ?? "")).map(([name, value]) => [
      `label.${name}`,
      value,
    ]);
    return { state, text, owner, ...Object.fromEntries(labels) };
  }

  // The first page again keeps what older pages brought.
  async #load(cursor, { isAgain = false } = {}) {
    const asked = isAgain ? this.#asked : (this.#asked += 1);
    let page;
    try {
      page = await api.get("/jobs", {
        query: { ...this.#query(), cursor, limit: PAGE },
        signal: this.signal,
      });
    } catch (error) {
      if (error.name === "AbortError" || asked !== this.#asked) return;
      setText(this.#problem, error.message);
      this.#problem.hidden = false;
      return;
    }
    if (asked !== this.#asked) return;
    this.#problem.hidden = true;
    const found = page.jobs.map((job) => [job.job_id, job]);
    if (isAgain) {
      const oldest = page.jobs.at(-1)?.job_id ?? "";
      const older = [...this.#jobs].filter(([id]) => page.cursor !== null && id < oldest);
      this.#jobs = new Map([...found, ...older]);
      if (older.length === 0) this.#cursor = page.cursor;
    } else {
      this.#jobs = new Map([...(cursor === null ? [] : this.#jobs), ...found]);
      this.#cursor = page.cursor;
    }
    this.#draw();
  }

  #known(id) {
    if (id === undefined) {
      this.#later("again", SOON_MS, () => this.#load(null, { isAgain: true }));
    } else if (this.#jobs.has(id) && store.jobs.has(id)) {
      this.#jobs.set(id, store.jobs.get(id));
      this.#later("draw", SOON_MS, () => this.#draw());
    }
  }

  #draw() {
    const isFiltered = Object.values(this.#fields).some(({ value }) => value !== "");
    this.#table.empty = isFiltered
      ? [h("strong", "No job fits"), h("a", { href: "#/jobs" }, "Show all jobs")]
      : [
          h("strong", "No jobs yet"),
          h(
            "p",
            "Drop a module on ",
            link("/submit", "Submit"),
            ", or type ",
            h("code", "swarm-hub submit MODULE DATA"),
          ),
        ];
    this.#table.rows = this.#jobs.values();
    this.#more.hidden = this.#cursor === null;
    this.#drawChosen();
  }

  #drawChosen() {
    const ids = [...this.#table.selected].filter((id) => this.#jobs.has(id));
    this.#chosen.hidden = ids.length === 0;
    const button = (text, onclick, kind = "button.button") =>
      h(kind, { type: "button", onclick }, text);
    replace(
      this.#chosen,
      h("strong", `${count(ids.length, "jobs")} selected`),
      button("Submit again", () => this.#again(ids)),
      button("Cancel", () => this.#cancel(ids), "button.button.button-danger"),
      button("Clear", () => {
        this.#table.selected = [];
      }),
    );
  }

  async #cancel(ids) {
    if (
      !(await confirm(`Cancel ${count(ids.length, "jobs")}?`, {
        danger: true,
        action: "Cancel them",
        detail: "Jobs that have ended stay as they are.",
      }))
    )
      return;
    const parts = [];
    for (let at = 0; at < ids.length; at += 500) parts.push(ids.slice(at, at + 500));
    await attempt(
      () => Promise.all(parts.map((part) => api.post("/jobs/cancel", { ids: part }))),
      "They are cancelled",
    );
    this.#table.selected = [];
    this.#load(null, { isAgain: true });
  }

  async #again(ids) {
    if (ids.length > 1 && !(await confirm(`Submit ${count(ids.length, "jobs")} again?`))) return;
    await attempt(async () => {
      for (const id of ids)
        await api.post(`/jobs/${id}/resubmit`, {}, { headers: { "Idempotency-Key": newKey() } });
    }, "They are submitted again");
    this.#table.selected = [];
    this.#load(null, { isAgain: true });
  }
}

const COLUMNS = [
  {
    id: "name",
    title: "Job",
    value: (job) => job.name ?? job.job_id,
    head: true,
    cell: (job) => link(place(job), job.name ?? shortId(job.job_id)),
  },
  { id: "state", title: "State", value: (job) => job.state, cell: (job) => badge(job.state) },
  {
    id: "done",
    title: "Done",
    value: shareOf,
    numeric: true,
    cell: (job) => {
      const { items, items_failed: bad } = job.progress;
      return `${percent(shareOf(job))} of ${count(items)}${bad ? `, ${count(bad)} failed` : ""}`;
    },
  },
  {
    id: "created",
    title: "Submitted",
    value: (job) => job.created_at,
    cell: (job) => timeElement(job.created_at),
  },
  {
    id: "took",
    title: "Took",
    value: (job) => job.duration_s,
    cell: (job) => duration(job.duration_s),
    numeric: true,
  },
  { id: "owner", title: "Owner", value: (job) => job.owner },
  {
    id: "labels",
    title: "Labels",
    value: (job) => Object.entries(job.labels).join(),
    cell: (job) =>
      Object.entries(job.labels).map(([name, value]) => [h("span.tag", `${name}: ${value}`), " "]),
  },
];

customElements.define("hub-jobs", Jobs);
route("/jobs", "hub-jobs", "Jobs");
