/** The hub's durable events, live and from any `seq` on. */
import { live } from "../core/connection.js";
import { badge, h, inFrame, query, replace, route, setQuery, setText, View } from "../core/dom.js";
import { clock, count, timeElement } from "../core/format.js";
import { kindOf, store, TYPES, wordsOf } from "../core/store.js";

const KEPT_MAX = 20_000;
const SHOWN_BEFORE = 500;
const SPARE = 8;

class Events extends View {
  #events = [];
  #paused = false;
  #missed = 0;
  #end = () => {};
  #list = h("div.event-list", { tabindex: 0, role: "log", "aria-label": "Events",
    "aria-live": "off" });
  #space = h("div.event-space");
  #note = h("span.muted", { role: "status" });
  #pause = h("button.button", { onclick: () => this.#setPaused(!this.#paused) }, "Pause");
  #fields = {};
  #draw = inFrame(() => this.#render());

  render() {
    const asked = query();
    const field = (name, attributes) => {
      const element = h("input", { type: "search", value: asked[name] ?? "", ...attributes });
      this.#fields[name] = element;
      return element;
    };
    const types = h("select", { "aria-label": "Type" }, h("option", { value: "" }, "every type"),
      ["job", "shard", "node"].map((kind) =>
        h("option", { value: `${kind}_`, selected: asked.type === `${kind}_` }, `${kind}s`)),
      TYPES.map((type) => h("option", { value: type, selected: asked.type === type }, type)));
    this.#fields.type = types;
    replace(this, h("div.head", h("h1", { tabindex: -1 }, "Events"), this.#note),
      h("form.toolbar", { onsubmit: (event) => {
        event.preventDefault();
        this.#follow();
      } }, types,
      field("job", { placeholder: "job's id", "aria-label": "Job's id" }),
      field("node", { placeholder: "node's id", "aria-label": "Node's id" }),
      field("since", { placeholder: "after seq", "aria-label": "After seq", type: "number", min: 0 }),
      h("button.button", "Show"), this.#pause),
      h("div.card.flush", this.#list));
    this.#list.append(this.#space);
    this.on(types, "change", () => this.#follow());
    this.on(this.#list, "scroll", this.#draw);
    this.whenGone(() => this.#end());
    const sized = new ResizeObserver(this.#draw);
    sized.observe(this.#list);
    this.whenGone(() => sized.disconnect());
    this.on(store, "health", () => this.#begun || this.#follow());
    if (store.health !== null) this.#follow();
  }

  #begun = false;

  /** Subscribes to what the fields say, from `since` or from a little before now. */
  #follow() {
    const said = Object.fromEntries(Object.entries(this.#fields).map(([name, { value }]) =>
      [name, value.trim()]));
    setQuery(said);
    this.#begun = true;
    this.#end();
    this.#events = [];
    this.#missed = 0;
    const types = TYPES.filter((type) => type === said.type ||
      (said.type.endsWith("_") && type.startsWith(said.type)));
    const filter = { since: said.since === "" ? Math.max(0, store.health.last_seq - SHOWN_BEFORE)
      : Math.max(0, Math.floor(Number(said.since))) };
    // Passing events have no seq; asked for all types, the hub sends these too.
    filter.event_type = said.type ? types : TYPES;
    if (said.job) filter.job_id = said.job;
    if (said.node) filter.node_id = said.node;
    this.#end = live.subscribe(filter, (event) => this.#take(event), {
      onReady: ({ events_lost: lost }) => {
        if (lost) setText(this.#note, "Events before the first of these are no longer kept");
        this.#draw();
      },
      onError: ({ message }) => setText(this.#note, message),
    });
    this.#draw();
  }

  #take(event) {
    this.#events.push(event);
    if (this.#events.length > KEPT_MAX) this.#events.splice(0, KEPT_MAX / 10);
    if (this.#paused) this.#missed += 1;
    this.#draw();
  }

  #setPaused(paused) {
    this.#paused = paused;
    this.#frozen = paused ? [...this.#events] : null;
    this.#missed = 0;
    this.#pause.setAttribute("aria-pressed", paused);
    this.#draw();
  }

  #frozen = null;

  #render() {
    const events = this.#frozen ?? this.#events;
    setText(this.#pause, this.#paused ? `Go on${this.#missed ? ` (${count(this.#missed)} new)` : ""}`
      : "Pause");
    if (events.length === 0) {
      this.#space.style.height = "auto";
      replace(this.#space, h("div.empty", h("strong", "No events yet"),
        h("p", "What happens to jobs, shards and nodes is told here. Try another filter, or a lower seq.")));
      return;
    }
    const height = matchMedia("(max-width: 760px)").matches ? 58 : 34;
    const first = Math.max(0, Math.floor(this.#list.scrollTop / height) - SPARE);
    const last = Math.min(events.length,
      first + Math.ceil(this.#list.clientHeight / height) + 2 * SPARE);
    this.#space.style.height = `${events.length * height}px`;
    const kept = new Map([...this.#space.children].map((row) => [row.event, row]));
    const rows = [];
    for (let index = first; index < last; index++) {
      // The newest is at the top.
      const event = events[events.length - 1 - index];
      const row = kept.get(event) ?? rowOf(event);
      row.style.transform = `translateY(${index * height}px)`;
      rows.push(row);
    }
    this.#space.replaceChildren(...rows);
  }
}

function rowOf(event) {
  const row = h("div.event", { dataset: { seq: event.seq } },
    h("span.muted.event-seq", `#${event.seq}`),
    badge(event.event_type.replaceAll("_", " "), kindOf(event.event_type)),
    timeElement(event.time_fired, clock), h("span.cut", wordsOf(event)));
  row.event = event;
  return row;
}

customElements.define("hub-events", Events);
route("/events", "hub-events", "Events");
