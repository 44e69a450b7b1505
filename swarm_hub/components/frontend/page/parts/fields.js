/** Fields of a form by their names in a request, each with a place for what is wrong with it. */
import { h, replace, setText } from "../core/dom.js";

export class Fields {
  #fields = new Map();

  /** Returns an element with its label and the place below it. */
  add(name, label, element) {
    element.id = `field-${name.replace(".", "-")}`;
    const error = h("span.field-error", { id: `${element.id}-error` });
    element.setAttribute("aria-describedby", error.id);
    this.#fields.set(name, { element, error });
    return h("div.field", h("label", { for: element.id }, label), element, error);
  }

  input(name, label, attributes) {
    return this.add(name, label, h("input", { autocomplete: "off", ...attributes }));
  }

  /** A select of pairs of value and text. */
  choice(name, label, choices = []) {
    const field = this.add(name, label, h("select"));
    this.offer(name, choices);
    return field;
  }

  get(name) {
    return this.#fields.get(name).element;
  }

  value(name) {
    return this.get(name).value.trim();
  }

  /** Gives a select other choices. */
  offer(name, choices) {
    replace(this.get(name), choices.map(([value, text]) => h("option", { value }, text)));
  }

  /** Shows errors as the hub names them, `{path, message}`, and no others. */
  say(errors) {
    for (const [name, { element, error }] of this.#fields) {
      const found = errors.find(({ path }) => path.replace(/^spec\./, "") === name);
      setText(error, found?.message);
      element.removeAttribute("aria-invalid");
      if (!found) continue;
      element.setAttribute("aria-invalid", "true");
      const closed = element.closest("details");
      if (closed) closed.open = true;
    }
  }
}
