/** What a person should do about this hub, the worst first. */
import { api, live, session } from "../core/connection.js";
import { attempt, toast } from "../core/dialog.js";
import { badge, facts, h, renew, replace, route, View } from "../core/dom.js";
import { timeElement } from "../core/format.js";
import { store } from "../core/store.js";

const ASK_EVERY_S = 10;
const COLORS = { error: "bad", warning: "warn", notice: "info" };

class Repairs extends View {
  #list = h("div.stack", { "aria-live": "polite" });

  render() {
    replace(this, h("div.head", h("h1", { tabindex: -1 }, "Repairs")), this.#list);
    for (const type of ["repair_raised", "repair_gone"]) {
      // When the connection is back, what came meanwhile is asked for.
      this.whenGone(live.subscribe({ event_type: type }, () => this.#load(),
        { onReady: () => this.#load(), onError: () => {} }));
    }
    // The hub itself looks but once a minute.
    this.every(ASK_EVERY_S, () => this.#load());
  }

  async #load() {
    const found = await api.get("/repairs", { signal: this.signal }).catch((error) => ({ error }));
    if (found.error?.name === "AbortError") return;
    if (found.error) renew(this.#list, h("p.notice.notice-warn", found.error.message));
    else this.#draw(found.repairs);
  }

  #draw(repairs) {
    const [open, ignored] = [false, true].map((is) => repairs.filter((each) => each.ignored === is));
    renew(this.#list,
      open.length === 0 && h("div.card.empty", h("strong", "There is nothing to repair"),
        h("p", "What this hub finds wrong is listed here, with what to do about it.")),
      open.map((each) => this.#one(each)),
      ignored.length > 0 && h("details", h("summary", `Ignored: ${ignored.length}`),
        h("div.stack", ignored.map((each) => this.#one(each)))));
  }

  #one({ id, severity, title, if_ignored: risk, fix, command, button, since, ignored }) {
    const ignore = () => this.#do(() => api.post(`/repairs/${encodeURIComponent(id)}/ignore`,
      { ignored: !ignored }));
    return h("section.card.stack", { dataset: { key: `${id} ${severity} ${ignored} ${title}` } },
      h("div.row", h("h2", title), badge(severity, COLORS[severity])),
      facts([["What to do", fix], ["Command", command && h("code", command)],
        ["If ignored", risk], ["Since", timeElement(since)]]),
      session.can("admin") && h("div.row",
        button && h("button.button.button-primary", { onclick: () => this.#fix(id) }, button),
        h("button.button", { onclick: ignore, "aria-label":
          `${ignored ? "Show again" : "Ignore"}: ${title}` }, ignored ? "Show again" : "Ignore")));
  }

  #fix(id) {
    return this.#do(async () => {
      // One that is not there any more went by itself since it was drawn.
      const { gone } = await api.post(`/repairs/${encodeURIComponent(id)}/fix`).catch((error) => {
        if (error.status === 404) return { gone: true };
        throw error;
      });
      toast(gone ? "It is repaired" : "It was tried; the cause is still there", gone ? "ok" : "warn");
    });
  }

  async #do(work) {
    await attempt(work);
    await this.#load();
    store.loadHealth();
  }
}

customElements.define("hub-repairs", Repairs);
route("/repairs", "hub-repairs", "Repairs");
