/** A hub whose configuration can't be used: what is wrong, and the file to mend it in. */
import { api, errorOf, session } from "../core/connection.js";
import { attempt, toast } from "../core/dialog.js";
import { badge, h, replace, route, setText, View } from "../core/dom.js";
import { store } from "../core/store.js";

const ASK_EVERY_MS = 500;
const pathOf = (name) => `/config/files/${encodeURIComponent(name)}`;

/** The hub runs: what the page knows of the other one means nothing there. */
function leave() {
  location.hash = "#/";
  location.reload();
}

class Recovery extends View {
  #problems = h("section.card.stack", { "aria-live": "polite", "aria-label": "Problems" });
  #name = h("select", { onchange: () => this.#open(this.#name.value) });
  #numbers = h("pre", { "aria-hidden": "true" });
  #text = h("textarea", { rows: 22, wrap: "off", spellcheck: "false", oninput: () => this.#edited(),
    onscroll: () => { this.#numbers.scrollTop = this.#text.scrollTop; } });
  #state = h("span.muted", { role: "status" });
  #version = null;
  #saved = "";

  render() {
    replace(this, h("div.head", h("h1", { tabindex: -1 }, "Recovery"), badge("not running", "bad")),
      h("div.stack",
        h("p", "Its configuration can't be used, so this hub takes no work and gives none out. " +
          "What it accepted before is untouched."),
        this.#problems,
        session.can("admin") ? this.#editor()
          : h("p.notice", "To mend it here, open this page with an admin's token.")));
    this.on(store, "health", () => {
      if (store.health.recovery) this.#draw(store.health.recovery);
      else leave();
    });
    this.#draw(store.health?.recovery);
    if (session.can("admin")) this.#load();
  }

  #editor() {
    const button = (text, work) => h("button.button", { onclick: () => attempt(work) }, text);
    return h("section.card.stack", { "aria-label": "Files" },
      h("label.field", h("span", "File"), this.#name),
      h("label.field", h("span", "Its content"), h("div.editor", this.#numbers, this.#text)),
      h("div.row", button("Check", () => this.#check()), button("Save", () => this.#save()),
        h("button.button.button-primary", { onclick: () => attempt(() => this.#start()) }, "Start"),
        this.#state));
  }

  #draw(problems) {
    if (!problems) return;
    replace(this.#problems, h("h2", problems.length ? "What is wrong" : "Nothing is wrong any more"),
      problems.length === 0 && h("p", "Start the hub."),
      h("ul.list", problems.map(({ file, line, path, message }) => h("li.row",
        h("span", h("code", line ? `${file}:${line}` : file), " ",
          path && h("strong", `${path}: `), message),
        line && session.can("admin") && h("button.button.button-small", {
          "aria-label": `Go to line ${line} of ${file}`,
          onclick: () => this.#jump(file, line) }, "Go to line")))));
  }

  async #load() {
    const found = await attempt(() => api.get("/config/files", { signal: this.signal }));
    if (!found) return;
    const names = found.files.map(({ name }) => name);
    replace(this.#name, names.map((name) => h("option", { value: name }, name)));
    const first = store.health?.recovery?.find(({ file }) => names.includes(file));
    await this.#open(first?.file ?? "configuration.yaml");
  }

  async #open(name) {
    await attempt(async () => {
      const response = await api.raw("GET", pathOf(name), { signal: this.signal });
      if (!response.ok) throw await errorOf(response);
      this.#version = response.headers.get("ETag");
      this.#saved = await response.text();
      this.#name.value = name;
      this.#text.value = this.#saved;
      this.#edited();
    });
  }

  #edited() {
    const count = this.#text.value.split("\n").length;
    setText(this.#numbers, Array.from({ length: count }, (_, index) => index + 1).join("\n"));
    // Another file would take the place of what is not saved.
    this.#name.disabled = this.#text.value !== this.#saved;
    setText(this.#state, this.#name.disabled ? "Not saved yet" : "");
  }

  async #jump(file, line) {
    if (file !== this.#name.value) {
      if (this.#name.disabled) return void toast(`Save ${this.#name.value} first`, "warn");
      await this.#open(file);
    }
    const lines = this.#text.value.split("\n");
    const begin = lines.slice(0, line - 1).join("\n").length + (line > 1);
    this.#text.focus();
    this.#text.setSelectionRange(begin, begin + (lines[line - 1] ?? "").length);
    this.#text.scrollTop = (line - 5) * this.#text.scrollHeight / lines.length;
  }

  async #check() {
    const { valid, problems } = await api.post("/config/check");
    this.#draw(problems);
    toast(`What is saved ${valid ? "is valid" : "can't be used"}`, valid ? "ok" : "warn");
  }

  async #save() {
    const response = await api.raw("PUT", pathOf(this.#name.value), { body: this.#text.value,
      headers: { "If-Match": this.#version, "Content-Type": "application/yaml" } });
    if (!response.ok) throw await errorOf(response);
    const { etag, valid, problems } = await response.json();
    this.#version = `"${etag}"`;
    this.#saved = this.#text.value;
    this.#edited();
    this.#draw(problems);
    toast(valid ? "Saved; it is valid" : "Saved; something is still wrong", valid ? "ok" : "warn");
  }

  async #start() {
    if (this.#name.disabled) await this.#save();
    await api.post("/config/start");
    setText(this.#state, "The hub starts…");
    let left = false;
    while (!this.signal.aborted) {
      await new Promise((resolve) => setTimeout(resolve, ASK_EVERY_MS));
      const found = await api.get("/health").catch(() => null);
      left ||= found === null || found.state !== "recovery";
      if (found?.state === "running") return leave();
      if (left && found?.state === "recovery") {
        this.#draw(found.recovery);
        setText(this.#state, "");
        throw new Error("It could not be started");
      }
    }
  }
}

customElements.define("hub-recovery", Recovery);
route("/recovery", "hub-recovery", "Recovery");
