/** Questions and short messages. */
import { h } from "./dom.js";

/** Asks; resolves with true or false. */
export function confirm(text, { danger = false, action = "OK", detail = null } = {}) {
  return ask(text, detail && h("p.muted", detail), action, danger).then((form) => form !== null);
}

/** Asks for a text; resolves with it, or with null. */
export async function prompt(text, { label = "Text", value = "", action = "OK", danger = false,
  detail = null, maxlength = 200 } = {}) {
  const field = h("input", { name: "text", value, maxlength, autocomplete: "off" });
  const fields = [detail && h("p.muted", detail), h("label.field", h("span", label), field)];
  const form = await ask(text, fields, action, danger);
  return form === null ? null : form.get("text").trim();
}

/** Shows a dialog with fields; resolves with its FormData, or null if it was left. */
export function ask(title, fields, action = "OK", danger = false) {
  const before = document.activeElement;
  return new Promise((resolve) => {
    const go = h(danger ? "button.button.button-danger" : "button.button.button-primary",
      { value: "go" }, action);
    const form = h("form", { method: "dialog" }, h("h2", { id: "dialog-title" }, title), fields,
      h("div.row.end", h("button.button", { value: "", formnovalidate: true }, "Cancel"), go));
    const dialog = h("dialog.dialog", { "aria-labelledby": "dialog-title" }, form);
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "go" ? new FormData(form) : null);
      dialog.remove();
      if (before?.isConnected) before.focus();
    });
    document.body.append(dialog);
    dialog.showModal();
    (form.querySelector("input, select, textarea") ?? go).focus();
  });
}

let region = null;

/** Says something for some seconds; `kind`: "ok", "warn", "bad" or "info". */
export function toast(text, kind = "info") {
  if (region === null) {
    region = h("div.toasts", { role: "status", "aria-live": "polite" });
    document.body.append(region);
  }
  const dismiss = h("button.toast-close", { "aria-label": "Dismiss" }, "×");
  const element = h("div.toast", { class: `toast-${kind}` }, h("span", text), dismiss);
  const timer = setTimeout(() => element.remove(), kind === "bad" ? 12_000 : 5000);
  dismiss.addEventListener("click", () => {
    clearTimeout(timer);
    element.remove();
  });
  region.append(element);
}

/** Does something that may fail, and says which way it went. */
export async function attempt(work, done) {
  try {
    const result = await work();
    if (done) toast(done, "ok");
    return result;
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message, "bad");
    return undefined;
  }
}
