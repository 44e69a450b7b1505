/** A job: how far it is and why it waits, its attempts as they ran, its result and all that was. */
import { api, live, session } from "../core/connection.js";
import { ask, attempt, confirm } from "../core/dialog.js";
import { badge, go, h, replace, route, setText, View } from "../core/dom.js";
import { clock, count, duration, rate, shortId, timeElement, UNKNOWN } from "../core/format.js";
import { JobModel } from "../core/job_model.js";
import { store, UNFINISHED } from "../core/store.js";
import { labelsOf } from "../core/submission.js";
import { failures, receipts, shareRows, sharesTable, story } from "../parts/job_sections.js";
import { button, labelsText, newKey, problem, soon, stylesheet, tags, textBox } from
  "../parts/job_words.js";
import "../parts/items_map.js";
import "../parts/result_view.js";
import "../parts/task_stream.js";

const SHARDS = 2500;
const STATUS_EVERY_S = 3;
const SOON_MS = 400;
const SLOW_MS = 1500;
const RATE_MS = 15_000;
const MEASURED_MS = 900;
const nameOf = (id) => store.nodes.get(id)?.name ?? shortId(id);

class Job extends View {
  #id = null;
  #path = null;
  #status = null;
  #model = new JobModel();
  #isLoaded = false;
  #waiting = [];
  #rates = [];
  #told = null;
  #title = h("h1", { tabindex: -1 });
  #badge = h("span");
  #actions = h("div.row");
  #waits = h("p.notice.notice-warn", { hidden: true, role: "status" });
  #progress = h("hub-progress");
  #facts = h("dl.figures");
  #about = h("p.muted.any");
  #result = h("hub-result");
  #resultCard = h("section.card", { hidden: true }, h("h2", "Result"), this.#result);
  #failures = h("div");
  #failuresCard = h("section.card", { hidden: true }, h("h2", "Failures"), this.#failures);
  #none = h("p.muted", "No shard was given out yet.");
  #stream = h("hub-task-stream");
  #map = h("hub-items-map");
  #shares = sharesTable();
  #statusSoon = soon(this, SOON_MS, () => this.#refresh());
  #shardsSoon = soon(this, SOON_MS, () => this.#load(0));
  #mapSoon = soon(this, SOON_MS, () => this.#drawMap());
  #namesSoon = soon(this, SOON_MS, () => this.#drawShares());
  #sharesSoon = soon(this, SLOW_MS, () => {
    if (this.#isLoaded && this.#model.hasUnplaced) this.#load(this.#model.firstUnplaced());
    this.#drawShares();
  });

  render() {
    stylesheet();
    this.#id = this.params.id;
    this.#path = `/jobs/${encodeURIComponent(this.#id)}`;
    setText(this.#title, `Job ${shortId(this.#id)}`);
    const scrolled = { tabindex: 0, role: "region", "aria-label": "What each node did" };
    this.#stream.nameOf = nameOf;
    this.#stream.model = this.#model;
    replace(this, h("div.stack.job",
      h("div.head", h("div.row", this.#title, this.#badge), this.#actions),
      this.#waits,
      h("section.card", { "aria-label": "Progress" }, this.#progress, this.#facts, this.#about),
      this.#resultCard,
      this.#failuresCard,
      h("section.card", h("h2", "Task stream"), this.#none, this.#stream),
      h("section.card", h("h2", "Items"), this.#map),
      h("section.card", h("h2", "Nodes"), h("div.job-shares", scrolled, this.#shares)),
      later("Receipts", () => receipts(this.#id)),
      later("Story", () => story(this.#id)),
      later("Specification", () => textBox(JSON.stringify(this.#status?.spec ?? {}, null, 2)))));
    this.on(this.#stream, "time", () => this.#drawMap());
    this.on(store, "nodes", this.#namesSoon);
    this.whenGone(live.subscribe({ job_id: this.#id }, (event) => this.#event(event),
      { onReady: ({ events_lost: lost }) => this.#begin(lost) }));
    this.every(STATUS_EVERY_S, () => {
      if (this.#status === null || this.#isOpen) this.#refresh();
    });
    this.every(1, () => this.#isOpen && this.#drawFacts());
  }

  get #isOpen() {
    return UNFINISHED.includes(this.#status?.state);
  }

  // Events wait until the shards are here that were before them; one that is known changes nothing.
  async #begin(isAgain) {
    if (this.#isLoaded && !isAgain) return;
    await this.#load(0);
    this.#isLoaded = true;
    for (const event of this.#waiting.splice(0)) this.#model.apply(event);
    this.#changed();
  }

  async #load(from) {
    let cursor = from > 0 ? from - 1 : null;
    try {
      do {
        const page = await api.get(`${this.#path}/shards`,
          { query: { cursor, limit: SHARDS }, signal: this.signal });
        this.#model.addPage(page.shards);
        this.#changed();
        cursor = page.cursor;
      } while (cursor !== null);
    } catch (error) {
      if (error.name !== "AbortError" && error.status !== 404) setText(this.#none, error.message);
    }
  }

  async #refresh() {
    try {
      this.#status = await api.get(this.#path, { signal: this.signal });
    } catch (error) {
      if (error.status !== 404 && error.status !== 410) return;
      replace(this, h("div.card.empty", h("h1", { tabindex: -1 }, "This job is not here"),
        h("p", error.message), h("a.button", { href: "#/jobs" }, "All jobs")));
      return;
    }
    this.#draw();
  }

  #event(event) {
    const { event_type: type, data } = event;
    if (type === "job_progress") {
      this.#progressed(data);
      return;
    }
    if (!this.#isLoaded) this.#waiting.push(event);
    else if (this.#model.apply(event)) this.#changed();
    if (type !== "shard_assigned" && type !== "shard_done") this.#statusSoon();
    if (/^job_(completed|failed|cancelled)$/.test(type) && this.#model.isGuessed) {
      this.#shardsSoon();
    }
  }

  #progressed({ job_id: _, ...now }) {
    if (this.#status === null) return;
    Object.assign(this.#status.progress, now);
    const at = performance.now();
    this.#rates.push({ at, items: now.items_done });
    while (this.#rates[0].at < at - RATE_MS) this.#rates.shift();
    this.#drawFacts();
  }

  #changed() {
    this.#none.hidden = this.#model.nAttempts > 0;
    this.#stream.isLive = this.#status === null || this.#isOpen;
    this.#stream.changed();
    this.#mapSoon();
    this.#sharesSoon();
  }

  #drawMap() {
    this.#map.show(this.#model, this.#status?.progress.items ?? 0, this.#stream.time);
  }

  #drawShares() {
    this.#stream.nameOf = nameOf;
    this.#shares.empty = "None has worked for it yet.";
    this.#shares.rows = shareRows(this.#model, nameOf, this.#status?.nodes);
  }

  #draw() {
    const { state, name, owner, labels, spec, created_at: created, progress } = this.#status;
    const isNew = this.#told !== state;
    this.#told = state;
    setText(this.#title, name ?? `Job ${shortId(this.#id)}`);
    document.title = `${this.#title.textContent} · ${session.hub.name}`;
    replace(this.#badge, badge(state));
    this.#drawWaits();
    replace(this.#about, h("span.mono", this.#id), ` of ${owner}, submitted `,
      timeElement(created, clock), `, ${spec.abi}, split ${spec.split}, reduce ${spec.reduce}, ` +
      `priority ${spec.priority} `, tags(labels));
    this.#stream.isLive = this.#isOpen;
    this.#resultCard.hidden = this.#isOpen;
    if (!this.#isOpen) this.#result.status = this.#status;
    this.#drawFacts();
    this.#drawMap();
    const hasFailed =
      progress.items_failed > 0 || this.#status.problem !== null || state === "failed";
    if (hasFailed && (this.#isOpen || isNew)) {
      this.#failuresCard.hidden = false;
      this.#drawFailures();
    }
    if (!isNew) return;
    this.#drawShares();
    replace(this.#actions, session.can("submit") && [
      this.#isOpen && button("Change…", () => this.#change()),
      button("Submit again", () => this.#again()),
      this.#isOpen && button("Cancel", () => this.#cancel(), ".button-danger"),
    ]);
  }

  #drawWaits() {
    const { state, waits, problem: told, failures: texts } = this.#status;
    const lines = [waits && `It waits: ${waits}`, told && `It is tried again: ${told}`,
      ...(state === "failed" ? texts.slice(0, 3) : [])].filter(Boolean);
    this.#waits.hidden = lines.length === 0;
    this.#waits.classList.toggle("notice-bad", state === "failed");
    // What is read aloud is not said again.
    if (this.#waits.textContent !== lines.join("")) {
      replace(this.#waits, lines.map((line) => h("span.job-why", line)));
    }
  }

  // What somebody reads is not taken away under their eyes.
  async #drawFailures() {
    if (this.#failures.querySelector("details[open]")) return;
    await fill(this.#failures, () => failures(this.#id, this.signal));
  }

  #drawFacts() {
    const { progress, started_at: started, finished_at: finished, created_at: created } =
      this.#status;
    const { items, items_done: done, items_failed: failed } = progress;
    this.#progress.value = { done, total: items, failed, label: "Items done" };
    const seconds = (from, to) =>
      Math.max(0, ((to ? new Date(to) : Date.now()) - new Date(from)) / 1000);
    const ran = started === null ? null : seconds(started, finished);
    const perS = (this.#isOpen ? this.#measured() : null) ??
      (ran > (this.#isOpen ? 1 : 0) ? done / ran : null);
    const left = perS > 0 && items !== null ? `about ${duration((items - done) / perS)}` : UNKNOWN;
    replace(this.#facts, Object.entries({
      "Shards done": count(progress.shards_done),
      "Tried again": count(progress.retries, "times"),
      Rate: rate(perS, "items"),
      ...(this.#isOpen ? { "Time left": left } : { Ended: timeElement(finished, clock) }),
      Waited: duration(seconds(created, started ?? finished)),
      Ran: duration(ran),
    }).map(([name, value]) => h("div.figure", h("dt", name), h("dd", value))));
  }

  // Items a second of the last seconds; null before there are any, for which it is since it began.
  #measured() {
    const first = this.#rates[0];
    const last = this.#rates.at(-1);
    if (!(last?.at - first?.at > MEASURED_MS)) return null;
    return (1000 * (last.items - first.items)) / (performance.now() - first.at);
  }

  async #cancel() {
    if (!(await confirm("Cancel this job?", { danger: true, action: "Cancel the job" }))) return;
    await attempt(() => api.delete(this.#path), "The job is cancelled");
    this.#refresh();
  }

  async #again() {
    const taken = await attempt(
      () => api.post(`${this.#path}/resubmit`, {}, { headers: { "Idempotency-Key": newKey() } }),
      "It is submitted again");
    if (taken) go(`/jobs/${taken.job_id}`);
  }

  async #change() {
    const { spec, labels } = this.#status;
    const field = (name, text, attributes) =>
      h("label.field", h("span", text), h("input", { name, ...attributes }));
    const form = await ask("Change this job", [
      field("priority", "Priority, from −100 to 100",
        { type: "number", min: -100, max: 100, value: spec.priority }),
      field("deadline", "Deadline in seconds after the submission, empty for none",
        { type: "number", min: 1, value: spec.deadline_s }),
      field("labels", "Labels, such as team=vision, run=2", { value: labelsText(labels) }),
    ], "Change");
    if (form === null) return;
    await attempt(() => api.patch(this.#path, {
      priority: Number(form.get("priority")),
      deadline_s: form.get("deadline") ? Number(form.get("deadline")) : null,
      labels: labelsOf(form.get("labels")),
    }), "The job is changed");
    this.#refresh();
  }
}

async function fill(place, load) {
  try {
    replace(place, await load());
  } catch (error) {
    if (error.name !== "AbortError") replace(place, problem(error.message));
  }
}

/** A part that is asked for when it is opened. */
function later(title, load) {
  const body = h("div");
  const opened = ({ target }) => {
    if (!target.open) return;
    replace(body, h("p.muted", "Loading…"));
    fill(body, load);
  };
  return h("details.card", { ontoggle: opened }, h("summary", h("h2", title)), body);
}

customElements.define("hub-job", Job);
route("/jobs/:id", "hub-job", "Job");
