/** The submit form: a module and its data dropped in, the rest filled from what the module is. */
import { api, session } from "../core/connection.js";
import { toast } from "../core/dialog.js";
import { go, h, replace, route, setText, View } from "../core/dom.js";
import { bytes, percent } from "../core/format.js";
import { bodyOf, defaultsOf, OPTIONS, REDUCES, specOf, SPLITS } from "../core/submission.js";
import { Fields } from "../parts/fields.js";
import { copy } from "../parts/invitation.js";
import { button, newKey, problem, stylesheet, textBox } from "../parts/job_words.js";
import { commandLine, curl } from "../parts/submit_commands.js";

const MODULE = /\.(wasm|wat|wast)$/i;
const LISTED = 50;
const KINDS = { files: "Files", range: "A range of numbers", text: "Text" };
const same = (values) => values.map((each) => [each, each]);
const orNone = (values, text) => (values.length ? same(values) : [["", text]]);

class Submit extends View {
  #module = null;
  #script = null;
  #runtimes = [];
  #files = [];
  #report = null;
  #key = newKey();
  #sending = null;
  #fields = new Fields();
  #told = h("div.stack", { "aria-live": "polite" });
  #list = h("ul.submit-files");
  #languages = h("div.muted.small");
  #problem = h("div.notice.notice-bad", { hidden: true, role: "alert" });
  #commands = h("div.stack");
  #progress = h("p.muted", { role: "status" });
  #send = h("button.button.button-primary", "Submit");
  #stop = button("Stop", () => this.#sending?.abort());

  render() {
    stylesheet();
    if (!session.can("submit")) {
      replace(this, h("div.card.empty", h("h1", { tabindex: -1 }, "Submit"), h("p",
        `This token may ${session.scope}. Enter with one that may submit: ` +
        "swarm-hub token create --scope submit")));
      return;
    }
    const fields = this.#fields;
    const file = (text, name, add, multiple = false) => {
      const onchange = ({ target }) => {
        add([...target.files]);
        target.value = "";
      };
      return h("label.field", h("span", text), h("input", { type: "file", name, multiple, onchange }));
    };
    this.#stop.hidden = true;
    replace(this, h("div.head", h("h1", { tabindex: -1 }, "Submit a job")), h("form.stack.job-form",
      { novalidate: true, onsubmit: (event) => this.#submit(event), oninput: () => this.#changed() },
      h("section.card.stack",
        h("h2", "Program"),
        h("div.submit-drop.stack",
          h("p", "Drop a .wasm or .wat file or a script here, with its data, or choose them:"),
          h("div.grid",
            file("Module", "module", ([module]) => this.#setModule(module)),
            file("Script", "script", ([script]) => this.#setScript(script))),
          this.#languages),
        this.#told),
      h("section.card.stack",
        h("fieldset.submit-kinds", h("legend", "Data"),
          Object.entries(KINDS).map(([value, text]) => h("label.row",
            h("input", { type: "radio", name: "data", value, checked: value === "files" }), text))),
        h("div.data-files.stack", file("Files", "files", (files) => this.#add(files), true),
          this.#list),
        h("div.data-range.grid",
          fields.input("lo", "From", { type: "number", value: 0 }),
          fields.input("hi", "Up to, without it", { type: "number", value: 100000 })),
        h("div.data-text",
          fields.add("text", "Items, one a line", h("textarea", { rows: 5 })))),
      h("section.card.stack", h("h2", "How it is called"), h("div.grid",
        fields.choice("abi", "Call (abi)"),
        fields.choice("entry", "Export (entry)"),
        fields.choice("split", "What an item is (split)",
          [["", "as the hub decides"], ...same(SPLITS)]),
        fields.choice("reduce", "How results are folded (reduce)",
          [["", "as the hub decides"], ...same(REDUCES)]))),
      h("details.card", h("summary", h("h2", "Options")), h("div.grid",
        OPTIONS.map(([name, text, attributes]) => fields.input(name, text, attributes)),
        fields.choice("on_error", "Items on which the module fails",
          [["", "fail the job"], ["skip", "are left out"]]))),
      this.#problem,
      h("div.row", this.#send, this.#stop, this.#progress),
      h("section.card", h("h2", "The same by hand"), this.#commands)));
    fields.get("abi").onchange = () => this.#fillEntries();
    this.#fillAbis();
    this.#askRuntimes();
    const over = (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      this.classList.toggle("dropping", event.type === "dragover");
      if (event.type === "drop") this.#drop([...event.dataTransfer.files]);
    };
    for (const name of ["dragover", "dragleave", "drop"]) this.on(document, name, over);
    this.whenGone(() => this.#sending?.abort());
  }

  #drop(files) {
    const module = files.find((file) => MODULE.test(file.name));
    const script = files.find((file) => this.#runtimeOf(file.name));
    if (script) this.#setScript(script);
    this.#setModule(module);
    this.#add(files.filter((file) => file !== module && file !== script));
  }

  async #askRuntimes() {
    const { runtimes } = await api.get("/runtimes", { signal: this.signal })
      .catch(() => ({ runtimes: [] }));
    this.#runtimes = runtimes;
    replace(this.#languages, h("p", "A script needs no module where its language is at hand; for " +
      "others choose their interpreter as the module."), runtimes.map(({ name, endings, sha256, get }) =>
      h("p", h("strong", name), ` (${endings.join(", ")}): `, sha256 ? "at hand" : `not yet; ${get}`)));
  }

  #runtimeOf(name) {
    return this.#runtimes.find(({ endings }) => endings.some((each) => name.endsWith(each)));
  }

  #setScript(script) {
    this.#script = script ?? null;
    const runtime = script && this.#module === null ? this.#runtimeOf(script.name) : null;
    if (script) replace(this.#told, h("p", h("strong", script.name), ` ${bytes(script.size)}`,
      runtime?.sha256 ? `, run by ${runtime.name}` : ""),
    runtime && !runtime.sha256 && problem(`This hub has no ${runtime.name} yet: ${runtime.get}`));
    this.#changed();
  }

  get #canSend() {
    return this.#module !== null || Boolean(this.#script && this.#runtimeOf(this.#script.name)?.sha256);
  }

  #add(files) {
    if (files.length) this.#kind = "files";
    this.#files = [...this.#files, ...files];
    this.#changed();
  }

  async #setModule(module) {
    if (!module) return;
    this.#module = module;
    this.#report = null;
    const named = [h("strong", module.name), ` ${bytes(module.size)}`];
    replace(this.#told, h("p.muted", named, ": it is looked at…"));
    this.#changed();
    let report;
    try {
      report = await api.post("/modules/inspect", module, { signal: this.signal });
    } catch (error) {
      if (error.name !== "AbortError" && module === this.#module)
        replace(this.#told, problem(`${module.name}: ${error.message}`));
      return;
    }
    // Another may have been chosen meanwhile.
    if (module !== this.#module) return;
    this.#report = report;
    const names = report.exports.map(({ name }) => name).join(", ");
    replace(this.#told, h("p", named, `, exports ${names || "nothing"}`),
      report.refused && problem(report.refused),
      !report.abis.length && h("p.notice.notice-warn",
        "No export fits a way to call it; see what swarm-hub inspect says of it."));
    this.#fillAbis();
  }

  #fillAbis() {
    const abis = this.#report?.abis ?? [];
    this.#fields.offer("abi", orNone(abis.map(({ abi }) => abi), "by the module"));
    this.#fillEntries();
  }

  #fillEntries() {
    const abi = this.#fields.value("abi");
    const entries = this.#report?.abis.find((each) => each.abi === abi)?.entries ?? [];
    this.#fields.offer("entry", orNone(entries, "by the module"));
    if (abi) {
      const defaults = defaultsOf(abi, this.#report.folds);
      for (const [name, value] of Object.entries(defaults)) this.#fields.get(name).value = value;
      if (abi === "range") this.#kind = "range";
    }
    this.#changed();
  }

  get #kind() {
    return this.querySelector("form").elements.data.value;
  }

  set #kind(kind) {
    this.querySelector("form").elements.data.value = kind;
  }

  #spec() {
    return specOf((name) => this.#fields.value(name), this.#kind);
  }

  get #range() {
    return `${this.#fields.value("lo") || 0}:${this.#fields.value("hi") || 0}`;
  }

  #changed() {
    if (!this.isConnected) return;
    // Another submission than the last: it needs another key.
    this.#key = newKey();
    this.#fields.say([]);
    this.#problem.hidden = true;
    const kind = this.#kind;
    for (const each of Object.keys(KINDS))
      this.querySelector(`.data-${each}`).hidden = each !== kind;
    replace(this.#list, this.#files.slice(0, LISTED).map((file) => this.#listed(file)),
      this.#files.length > LISTED && h("li.muted", `and ${this.#files.length - LISTED} more`));
    this.#send.disabled = !this.#canSend || this.#sending !== null;
    let spec;
    try {
      spec = this.#spec();
    } catch (error) {
      this.#fields.say(error.errors);
      replace(this.#commands, h("p.muted", "Once every field can be read"));
      return;
    }
    const what = { module: this.#module?.name ?? null, script: this.#script?.name ?? null, kind,
      files: this.#files.map(({ name }) => name), range: this.#range, url: location.origin };
    replace(this.#commands, command("Command", commandLine(what, spec)),
      command("curl", curl(what, spec)));
  }

  #listed(file) {
    const remove = button("Remove", () => {
      this.#files = this.#files.filter((each) => each !== file);
      this.#changed();
    }, ".button-small");
    remove.setAttribute("aria-label", `Remove ${file.name}`);
    return h("li.row.between", h("span.any", file.name),
      h("span.row", h("span.muted", bytes(file.size)), remove));
  }

  async #submit(event) {
    event.preventDefault();
    if (!this.#canSend || this.#sending !== null) return;
    this.#sending = new AbortController();
    this.#send.disabled = true;
    this.#stop.hidden = false;
    this.#problem.hidden = true;
    const { signal } = this.#sending;
    const say = (text) => setText(this.#progress, text);
    try {
      const data = { kind: this.#kind, files: this.#files, range: this.#range,
        text: this.#fields.get("text").value };
      const body = await bodyOf(this.#module, this.#script, data, this.#spec(), signal,
        (file, stage, share) =>
          say(`${file.name}: ${stage} ${percent(100 * share)} of ${bytes(file.size)}`));
      say("The job is sent…");
      const headers = { "Idempotency-Key": this.#key };
      const taken = await api.post("/jobs", body, { signal, headers });
      toast("The job is submitted", "ok");
      go(`/jobs/${taken.job_id}`);
    } catch (error) {
      const isStopped = error.name === "AbortError";
      say(isStopped ? "Stopped; what was sent is kept, and goes on from there" : "");
      if (isStopped) return;
      this.#fields.say(error.errors ?? []);
      setText(this.#problem, error.message);
      this.#problem.hidden = false;
    } finally {
      this.#sending = null;
      this.#send.disabled = false;
      this.#stop.hidden = true;
    }
  }
}

const command = (title, text) => h("div",
  h("div.row.between", h("h3", title), button("Copy", () => copy(text), ".button-small")),
  textBox(text));

customElements.define("hub-submit", Submit);
route("/submit", "hub-submit", "Submit");
