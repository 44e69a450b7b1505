/** Says that the connection is lost, and counts down to the next attempt. */
import { h, replace, setText, View } from "../core/dom.js";
import { live } from "../core/live.js";

class Banner extends View {
  #since = null;
  #count = h("span", { "aria-hidden": "true" });

  render() {
    this.on(live, "state", () => this.#show());
    this.every(1, () => this.#tick());
    this.#show();
  }

  #show() {
    if (live.state === "connected" || live.state === "idle" || live.state === "paused") {
      this.#since = null;
      replace(this);
      return;
    }
    // The first connection is no loss, and a new attempt keeps the banner that there is.
    if (live.state === "connecting") {
      setText(this.#count, this.#since === null ? "" : "trying again…");
      return;
    }
    this.#since ??= Date.now();
    if (!this.firstChild) {
      replace(this, h("div.banner", { role: "alert" },
        h("span", "The connection to the hub is lost. What you see may be old."), this.#count,
        h("button.button.button-small", { onclick: () => live.retry() }, "Retry now")));
    }
    this.#tick();
  }

  #tick() {
    if (live.state !== "lost") return;
    const seconds = Math.max(0, Math.ceil((live.retryAt - Date.now()) / 1000));
    setText(this.#count, `Next attempt in ${seconds} s`);
  }
}

customElements.define("hub-banner", Banner);
