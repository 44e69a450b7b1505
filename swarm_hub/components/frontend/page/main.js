/** The page: lets its reader in, shows what the address names, and keeps the connection. */
import { live, logout, session } from "./core/connection.js";
import { address, find, go, h, icon, lazy, parseAddress, replace, setText, View }
  from "./core/dom.js";
import { store } from "./core/store.js";

lazy("/", () => import("./views/overview.js"));
lazy("/nodes", () => import("./views/nodes.js"));
lazy("/nodes/:id", () => import("./views/node.js"));
lazy("/jobs", () => import("./views/jobs.js"));
lazy("/jobs/:id", () => import("./views/job.js"));
lazy("/submit", () => import("./views/submit.js"));
lazy("/events", () => import("./views/events.js"));
lazy("/automations", () => import("./views/automations.js"));
lazy("/invite", () => import("./views/invite.js"));
lazy("/health", () => import("./views/health.js"));
lazy("/repairs", () => import("./views/repairs.js"));
lazy("/recovery", () => import("./views/recovery.js"));
lazy("/configuration", () => import("./views/configuration.js"));

// Each place has a path, an icon, a title and the scope without which it is of no use.
const PLACES = [
  ["/", "overview", "Overview", "read"],
  ["/jobs", "jobs", "Jobs", "read"],
  ["/submit", "submit", "Submit", "submit"],
  ["/nodes", "nodes", "Nodes", "read"],
  ["/events", "events", "Events", "read"],
  ["/automations", "automations", "Automate", "read"],
  ["/invite", "invite", "Invite", "read"],
  ["/repairs", "repairs", "Repairs", "read"],
  ["/health", "health", "Health", "read"],
  ["/configuration", "configuration", "Config", "admin"],
];
// What components of the owner's brought; its module tells, by `route`, what shows it.
for (const { content } of document.querySelectorAll("meta[name=place]")) {
  const [name, scope, title] = content.split(/\|(.*?)\|(.*)/);
  lazy(`/own/${name}`, () => import(`./own/${name}.js`));
  PLACES.push([`/own/${name}`, "swarm", title, scope]);
}
const STATES = {
  connected: ["dot-ok", "Live"],
  connecting: ["dot-warn", "Connecting"],
  lost: ["dot-bad", "Disconnected"],
  paused: ["dot-warn", "Paused"],
  idle: ["dot-warn", "Not connected"],
};

const app = document.getElementById("app");
let main = null;
let links = new Map();
let shown = { path: null, element: null };
let forgetState = () => {};

function leave() {
  live.stop();
  store.stop();
  shown = { path: null, element: null };
  main = null;
}

async function showWayIn() {
  leave();
  replace(app);
  // Who has a session does without it.
  await import("./parts/way_in.js");
  if (session.token !== null) return;
  const wayIn = h("hub-way-in");
  wayIn.addEventListener("entered", showHub);
  document.title = "swarm_hub";
  replace(app, wayIn);
}

function showHub() {
  const dot = h("span.dot", { "aria-hidden": "true" });
  const words = h("span");
  const showState = () => {
    const [color, text] = STATES[live.state];
    dot.className = `dot ${color}`;
    setText(words, text);
  };
  forgetState();
  forgetState = live.on("state", showState);
  main = h("main", { id: "main", tabindex: -1 });
  links = new Map(PLACES.filter(([, , , scope]) => session.can(scope))
    .map(([path, name, title]) => [path, h("a", { href: address(path) }, icon(name), title)]));
  const skip = (event) => {
    event.preventDefault();
    (main.querySelector("h1") ?? main).focus();
  };
  replace(app, h("a.skip", { href: "#main", onclick: skip }, "Skip to the content"), h("div.shell",
    h("div.side",
      h("div.brand", icon("swarm"), h("span", session.hub.name)),
      h("nav.nav", { "aria-label": "Places" },
        h("ul", [...links.values()].map((each) => h("li", each)))),
      h("div.account",
        h("span.link-status", { role: "status" }, dot, words),
        h("strong", { title: session.name }, session.name),
        h("span.scope.muted", `${session.scope} token `),
        h("button.button.button-plain", { onclick: logout }, "Log out"))),
    h("div", h("hub-banner"), main)));
  store.start();
  live.start(session.token);
  showState();
  showPlace();
}

async function showPlace() {
  if (main === null) return;
  const { path, query } = parseAddress(location.hash);
  if (path === shown.path) {
    shown.element?.queryChanged?.(query);
    return;
  }
  shown = { path, element: null };
  for (const [place, each] of links) {
    const isHere = place === path || (place !== "/" && path.startsWith(`${place}/`));
    if (isHere) {
      each.setAttribute("aria-current", "page");
      each.scrollIntoView({ block: "nearest", inline: "center" });
    } else each.removeAttribute("aria-current");
  }
  const found = await find(path).catch((error) => {
    console.error(error);
    return { error };
  });
  if (shown.path !== path || main === null) return;
  const element = found?.tag ? document.createElement(found.tag) : missing(path, found?.error);
  if (found?.params) element.params = found.params;
  document.title = `${found?.title ?? "Not found"} · ${session.hub.name}`;
  const isFirst = main.childElementCount === 0;
  shown.element = element;
  replace(main, element);
  scrollTo(0, 0);
  // Who walks by keyboard or hears the page begins at the new view's heading.
  if (!isFirst) (main.querySelector("h1") ?? main).focus({ preventScroll: true });
}

function missing(path, error) {
  return h("div.card.empty",
    h("h1", { tabindex: -1 }, error ? "This can't be shown" : "There is no such place"),
    h("p", error ? `${error.message}. Load the page again.` : `${path} leads nowhere.`),
    h("a.button", { href: "#/" }, "Go to the overview"));
}

/** Says that the connection is lost, and counts down to the next attempt. */
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

session.on("begin", () => store.refresh());
session.on("end", showWayIn);
// Nothing else is of use until it is mended.
store.on("health", () => store.health?.recovery && go("/recovery"));
live.on("refused", (problem) => session.end(problem));
addEventListener("hashchange", async () => {
  // A link of `swarm-hub open` in a tab that shows the page already.
  if (location.hash.startsWith("#code=")) await begin();
  else showPlace();
});

async function begin() {
  leave();
  if (await session.begin()) showHub();
  else await showWayIn();
}

await begin();
