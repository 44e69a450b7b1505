/** The page for who has no session: it asks for a token, and says how to make one. */
import { session } from "../core/connection.js";
import { h, icon, replace } from "../core/dom.js";

class WayIn extends HTMLElement {
  connectedCallback() {
    const field = h("input", { name: "token", type: "password", autocomplete: "off",
      required: true, spellcheck: "false", "aria-describedby": "way-in-problem" });
    const problem = h("p", { id: "way-in-problem", role: "alert" });
    const say = (text) => replace(problem, text && h("span.notice.notice-bad", text));
    const enter = async (event) => {
      event.preventDefault();
      say(null);
      if (await session.enter(field.value.trim())) {
        this.dispatchEvent(new CustomEvent("entered"));
      } else {
        say(session.problem);
        field.select();
      }
    };
    replace(this, h("main.way-in", h("div.card.stack",
      h("div.brand", icon("swarm"), h("span", "swarm_hub")),
      h("div", h("h1", { tabindex: -1 }, "Open this hub"),
        h("p.muted", "On the hub's device, this opens the page without a token to copy:")),
      h("pre.command", "swarm-hub open"),
      h("form.stack", { onsubmit: enter },
        h("label.field", h("span", "Token"), field), problem,
        h("button.button.button-primary", "Open")),
      h("p.muted.small", "To make a token for a reader: ",
        h("code", "swarm-hub token create NAME --scope read"),
        "; with submit or admin instead of read it may do more. The page keeps it until this tab closes."),
    )));
    say(session.problem);
    field.focus();
  }
}

customElements.define("hub-way-in", WayIn);
