/** The submit form: a module and its data dropped in, the rest filled from what the module is. */
import { api } from "../core/api.js";
import { toast } from "../core/dialog.js";
import { View, h, replace, setText } from "../core/dom.js";
import { bytes, percent } from "../core/format.js";
import { go, route } from "../core/router.js";
import { session } from "../core/session.js";
import { bodyOf, defaultsOf, OPTIONS, REDUCES, specOf, SPLITS } from "../core/submission.js";
import { Fields } from "../parts/fields.js";
import { copy } from "../parts/invitation.js";
import { newKey, stylesheet } from "../parts/job_words.js";
import { commandLine, curl } from "../parts/submit_commands.js";

const MODULE = /\.(wasm|wat|wast)$/i;
const LISTED = 50;

class Submit extends View {
  #module = null;
  #script = null;
  #files = [];
  #report = null;
  #inspected = 0;
  #key = newKey();
  #sending = null;
  #fields = new Fields();
  #told = h("div.stack", { "aria-live": "polite" });
  #list = h("ul.submit-files");
  #problem = h("div.notice.notice-bad", { hidden: true, role: "alert" });
  #commands = h("div.stack");
  #progress = h("p.muted", { role: "status" });
  #send = h("button.button.button-primary", { type: "submit" }, "Submit");
  #stop = h(
    "button.button",
    { type: "button", hidden: true, onclick: () => this.#sending?.abort() },
    "Stop",
  );
  #call = h("div.grid");

  render() {
    stylesheet();
    if (!session.can("submit")) {
      replace(
        this,
        h(
          "div.card.empty",
          h("h1", { tabindex: -1 }, "Submit"),
          h(
            "p",
            `This token may ${session.scope}. Enter with one that may submit: swarm-hub token create --scope submit`,
          ),
        ),
      );
      return;
    }
    const picked =
      (add) =>
      ({ target }) => {
        add([...target.files]);
        target.value = "";
      };
    const file = (text, name, add, multiple = false) =>
      h(
        "label.field",
        h("span", text),
        h("input", { type: "file", name, multiple, onchange: picked(add) }),
      );
    const kinds = h(
      "fieldset.submit-kinds",
      h("legend", "Data"),
      [
        ["files", "Files"],
        ["range", "A range of numbers"],
        ["text", "Text"],
      ].map(([value, text]) =>
        h(
          "label.row",
          h("input", {
            type: "radio",
            name: "data",
            value,
            checked: value === "files",
            onchange: () => this.#changed(),
          }),
          text,
        ),
      ),
    );
    const form = h(
      "form.stack.job-form",
      {
        novalidate: true,
        onsubmit: (event) => this.#submit(event),
        oninput: () => this.#changed(),
      },
      h(
        "section.card.stack",
        h("h2", "Module"),
        h(
          "div.submit-drop.stack",
          h(
            "p",
            "Drop a .wasm or .wat file here, with the files that are its data, or choose them:",
          ),
          h(
            "div.grid",
            file("Module", "module", (files) => this.#setModule(files[0])),
            file("Script, if the module is its interpreter", "script", ([script]) =>
              this.#setScript(script),
            ),
          ),
        ),
        this.#told,
      ),
      h(
        "section.card.stack",
        kinds,
        h(
          "div.data-files.stack",
          file("Files", "files", (files) => this.#add(files), true),
          this.#list,
        ),
        h(
          "div.data-range.grid",
          this.#fields.input("lo", "From", { type: "number", value: 0 }),
          this.#fields.input("hi", "Up to, without it", { type: "number", value: 100000 }),
        ),
        h(
          "div.data-text",
          this.#fields.add("text", "Items, one a line", h("textarea", { rows: 5 })),
        ),
      ),
      h("section.card.stack", h("h2", "How it is called"), this.#call),
      h(
        "details.card",
        h("summary", h("h2", "Options")),
        h(
          "div.grid",
          OPTIONS.map(([name, text, attributes]) => this.#fields.input(name, text, attributes)),
          this.#fields.choice("on_error", "Items on which the module fails", [
            ["", "fail the job"],
            ["skip", "are left out"],
          ]),
        ),
      ),
      this.#problem,
      h("div.row", this.#send, this.#stop, this.#progress),
      h("section.card", h("h2", "The same by hand"), this.#commands),
    );
    replace(
      this.#call,
      this.#fields.choice("abi", "Call (abi)", []),
      this.#fields.choice("entry", "Export (entry)", []),
      this.#fields.choice("split", "What an item is (split)", [
        ["", "as the hub decides"],
        ...SPLITS.map((each) => [each, each]),
      ]),
      this.#fields.choice("reduce", "How results are folded (reduce)", [
        ["", "as the hub decides"],
        ...REDUCES.map((each) => [each, each]),
      ]),
    );
    this.#fillAbis();
    replace(this, h("div.head", h("h1", { tabindex: -1 }, "Submit a job")), form);
    const over = (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      this.classList.toggle("dropping", event.type === "dragover");
    };
    for (const name of ["dragover", "dragleave"]) this.on(document, name, over);
    this.on(document, "drop", (event) => {
      over(event);
      if (event.dataTransfer) this.#drop([...event.dataTransfer.files]);
    });
    this.whenGone(() => this.#sending?.abort());
    this.#changed();
  }

  #drop(files) {
    const module = files.find((file) => MODULE.test(file.name));
    if (module) this.#setModule(module);
    this.#add(files.filter((file) => file !== module));
  }

  #add(files) {
    if (files.length) this.querySelector("input[name=data][value=files]").checked = true;
    this.#files = [...this.#files, ...files];
    this.#changed();
  }

  #setScript(script) {
    this.#script = script ?? null;
    this.#changed();
  }

  async #setModule(module) {
    if (!module) return;
    this.#module = module;
    this.#report = null;
    const asked = (this.#inspected += 1);
    replace(this.#told, h("p.muted", `${module.name}, ${bytes(module.size)}: it is looked at…`));
    this.#changed();
    let report;
    try {
      const response = await api.raw("POST", "/modules/inspect", {
        body: module,
        signal: this.signal,
      });
      report = await response.json();
      if (!response.ok) throw new Error(report.message);
    } catch (error) {
      if (error.name !== "AbortError" && asked === this.#inspected)
        replace(this.#told, h("p.notice.notice-bad", `${module.name}: ${error.message}`));
      return;
    }
    if (asked !== this.#inspected) return;
    this.#report = report;
    replace(
      this.#told,
      h(
        "p",
        h("strong", module.name),
        ` ${bytes(module.size)}, exports ${report.exports.map(({ name }) => name).join(", ") || "nothing"}`,
      ),
      report.refused && h("p.notice.notice-bad", report.refused),
      !report.abis.length &&
        h(
          "p.notice.notice-warn",
          "No export fits a way to call it; see what swarm-hub inspect says of it.",
        ),
    );
    this.#fillAbis();
    this.#changed();
  }

  #fillAbis() {
    const abis = this.#report?.abis ?? [];
    this.#fields.offer(
      "abi",
      abis.length ? abis.map(({ abi }) => [abi, abi]) : [["", "by the module"]],
    );
    this.#fields.get("abi").onchange = () => this.#fillEntries();
    this.#fillEntries();
  }

  #fillEntries() {
    const abi = this.#fields.value("abi");
    const entries = this.#report?.abis.find((each) => each.abi === abi)?.entries ?? [];
    this.#fields.offer(
      "entry",
      entries.length ? entries.map((entry) => [entry, entry]) : [["", "by the module"]],
    );
    if (abi) {
      for (const [name, value] of Object.entries(defaultsOf(abi, this.#report.folds)))
        this.#fields.get(name).value = value;
      if (abi === "range") this.querySelector("input[name=data][value=range]").checked = true;
    }
    this.#changed();
  }

  #dataKind() {
    return this.querySelector("input[name=data]:checked").value;
  }

  #spec() {
    return specOf((name) => this.#fields.value(name), this.#dataKind());
  }

  #what() {
    const kind = this.#dataKind();
    return {
      module: this.#module?.name ?? null,
      script: this.#script?.name ?? null,
      kind,
      files: this.#files.map(({ name }) => name),
      range: `${this.#fields.value("lo") || 0}:${this.#fields.value("hi") || 0}`,
      url: location.origin,
    };
  }

  #changed() {
    if (!this.isConnected || !this.querySelector("form")) return;
    // Another submission than the last: it needs another key.
    this.#key = newKey();
    this.#fields.say([]);
    this.#problem.hidden = true;
    const kind = this.#dataKind();
    for (const each of ["files", "range", "text"])
      this.querySelector(`.data-${each}`).hidden = each !== kind;
    replace(
      this.#list,
      this.#files.slice(0, LISTED).map((file, at) =>
        h(
          "li.row.between",
          h("span.any", file.name),
          h(
            "span.row",
            h("span.muted", bytes(file.size)),
            h(
              "button.button.button-small",
              {
                type: "button",
                "aria-label": `Remove ${file.name}`,
                onclick: () => {
                  this.#files = this.#files.filter((_, index) => index !== at);
                  this.#changed();
                },
              },
              "Remove",
            ),
          ),
        ),
      ),
      this.#files.length > LISTED && h("li.muted", `and ${this.#files.length - LISTED} more`),
    );
    this.#send.disabled = this.#module === null || this.#sending !== null;
    let spec;
    try {
      spec = this.#spec();
    } catch (error) {
      this.#fields.say(error.errors);
      replace(this.#commands, h("p.muted", "Once every field can be read"));
      return;
    }
    replace(
      this.#commands,
      [
        ["Command", commandLine(this.#what(), spec)],
        ["curl", curl(this.#what(), spec)],
      ].map(([title, text]) =>
        h(
          "div",
          h(
            "div.row.between",
            h("h3", title),
            h("button.button.button-small", { type: "button", onclick: () => copy(text) }, "Copy"),
          ),
          h("pre.result-text", { tabindex: 0 }, text),
        ),
      ),
    );
  }

  async #submit(event) {
    event.preventDefault();
    if (this.#module === null || this.#sending !== null) return;
    this.#sending = new AbortController();
    this.#send.disabled = true;
    this.#stop.hidden = false;
    this.#problem.hidden = true;
    try {
      const { signal } = this.#sending;
      const data = {
        kind: this.#dataKind(),
        files: this.#files,
        range: this.#what().range,
        text: this.#fields.get("text").value,
      };
      const told = (file, stage, share) =>
        setText(
          this.#progress,
          `${file.name}: ${stage} ${percent(100 * share)} of ${bytes(file.size)}`,
        );
      const body = await bodyOf(this.#module, this.#script, data, this.#spec(), signal, told);
      setText(this.#progress, "The job is sent…");
      const taken = await this.#post(body, signal);
      toast("The job is submitted", "ok");
      go(`/jobs/${taken.job_id}`);
    } catch (error) {
      setText(
        this.#progress,
        error.name === "AbortError" ? "Stopped; what was sent is kept, and goes on from there" : "",
      );
      if (error.name !== "AbortError") {
        this.#fields.say(error.errors ?? []);
        replace(this.#problem, error.message);
        this.#problem.hidden = false;
      }
    } finally {
      this.#sending = null;
      this.#send.disabled = false;
      this.#stop.hidden = true;
    }
  }

  async #post(body, signal) {
    const response = await api.raw("POST", "/jobs", {
      body,
      signal,
      headers: { "Idempotency-Key": this.#key },
    });
    const content = await response.json();
    if (!response.ok) throw Object.assign(new Error(content.message), { errors: content.errors });
    return content;
  }
}

customElements.define("hub-submit", Submit);
route("/submit", "hub-submit", "Submit");
