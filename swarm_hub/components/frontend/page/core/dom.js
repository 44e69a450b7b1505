/**
 * What views are made of: elements, never markup from a text, and what all of them show in the same
 * way; and the part of the address after `#`, which says what is shown: `#/jobs?state=running`.
 */
import { count } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * Makes an element: `h("button.button", { onclick: save, disabled: true }, "Save")`.
 * Functions become listeners, true and false set and unset, `dataset` takes an object.
 */
export function h(tag, ...rest) {
  return fill(document.createElement(tag.split(".")[0]), tag, rest);
}

/** The same in SVG. */
export function s(tag, ...rest) {
  return fill(document.createElementNS(SVG, tag.split(".")[0]), tag, rest);
}

function fill(element, tag, rest) {
  const classes = tag.split(".").slice(1);
  if (classes.length) element.classList.add(...classes);
  if (isAttributes(rest[0])) setAttributes(element, rest.shift());
  append(element, rest);
  return element;
}

function isAttributes(value) {
  return value !== null && typeof value === "object" && !(value instanceof Node) &&
    !Array.isArray(value);
}

/** Sets attributes of an element as `h` does. */
export function setAttributes(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null) continue;
    if (typeof value === "function" && name.startsWith("on")) {
      element.addEventListener(name.slice(2), value);
    } else if (name === "dataset") {
      Object.assign(element.dataset, value);
    } else if (name === "class") {
      element.classList.add(...String(value).split(/\s+/).filter(Boolean));
    } else if (typeof value === "boolean" && !name.startsWith("aria-")) {
      element.toggleAttribute(name, value);
    } else {
      element.setAttribute(name, value);
    }
  }
}

/** Adds children: nodes, texts, numbers, arrays of these; null, undefined and false are left out. */
export function append(parent, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === true) continue;
    parent.append(child instanceof Node ? child : String(child));
  }
  return parent;
}

/** Gives an element other children than before. */
export function replace(parent, ...children) {
  parent.replaceChildren();
  return append(parent, ...children);
}

/**
 * Gives an element other children than before, and keeps those that look the same or have the same
 * `data-key`: what has the focus stays. The listeners of what is kept are the older ones.
 */
export function renew(parent, ...children) {
  const wanted = [...append(document.createDocumentFragment(), ...children).childNodes];
  const before = [...parent.childNodes];
  const keyOf = (node) => node?.dataset?.key;
  const keyed = new Map(before.filter(keyOf).map((old) => [keyOf(old), old]));
  const kept = wanted.map((node, index) => {
    const old = keyed.get(keyOf(node)) ?? (keyOf(before[index]) ? undefined : before[index]);
    return old === undefined || old.isEqualNode(node) ? old ?? node : renewed(old, node);
  });
  arrange(parent, kept);
  return parent;
}

/** Gives an element these children, in this order; what has the focus keeps it. */
export function arrange(parent, children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const kept = new Set(children);
  for (const child of [...parent.childNodes]) if (!kept.has(child)) child.remove();
  let next = parent.firstChild;
  for (const child of children) {
    // One that goes down moves alone, instead of all those that it passes.
    if (next !== null && next !== child && next.nextSibling === child) {
      next.remove();
      next = child;
    }
    if (next === child) next = child.nextSibling;
    else parent.insertBefore(child, next);
  }
  // What moves loses the focus.
  if (focused?.isConnected && document.activeElement !== focused) {
    focused.focus({ preventScroll: true });
  }
}

function renewed(old, node) {
  const isSame = old instanceof Element && old.nodeName === node.nodeName &&
    !old.nodeName.includes("-") && old.getAttribute("href") === node.getAttribute("href");
  if (!isSame) return node;
  for (const { name } of [...old.attributes]) {
    if (!node.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of [...node.attributes]) old.setAttribute(name, value);
  return renew(old, ...node.childNodes);
}

/** Writes a text only if it is another one: an unchanged text costs no layout. */
export function setText(element, text) {
  const words = text === null || text === undefined ? "" : String(text);
  if (element.textContent !== words) element.textContent = words;
}

/** Returns a function that has `draw` called once in the next frame, however often it is called. */
export function inFrame(draw) {
  let asked = 0;
  return () => {
    if (asked) return;
    asked = requestAnimationFrame(() => {
      asked = 0;
      draw();
    });
  };
}

/**
 * A part of the page that is drawn when it comes and lets go of everything when it goes.
 * `params` are the names in its route; `render()` draws it.
 */
export class View extends HTMLElement {
  #params = {};
  #gone = new AbortController();

  get params() {
    return this.#params;
  }

  set params(params) {
    this.#params = params;
  }

  /** Aborted when the view goes: give it to `fetch` and `addEventListener`. */
  get signal() {
    return this.#gone.signal;
  }

  connectedCallback() {
    if (this.#gone.signal.aborted) this.#gone = new AbortController();
    this.render();
  }

  disconnectedCallback() {
    this.#gone.abort();
  }

  render() {}

  /** Listens to an `Emitter` or an element until the view goes. */
  on(emitter, name, handler) {
    if (emitter instanceof EventTarget) {
      emitter.addEventListener(name, handler, { signal: this.signal });
    } else {
      this.whenGone(emitter.on(name, handler));
    }
  }

  /** Calls `end()` when the view goes. */
  whenGone(end) {
    this.signal.addEventListener("abort", end, { once: true });
  }

  /** Calls `tick()` now and every so many seconds until the view goes. */
  every(seconds, tick) {
    const timer = setInterval(tick, seconds * 1000);
    this.whenGone(() => clearInterval(timer));
    tick();
  }
}

// Addresses.

const routes = [];

/** Has `#pattern` shown by the element `tag`: "/nodes/:id" gives it `params.id`. */
export function route(pattern, tag, title) {
  entry(pattern).view = { tag, title };
}

/** Has the module that `load` imports tell, by `route`, what shows a pattern. */
export function lazy(pattern, load) {
  entry(pattern).load = load;
}

function entry(pattern) {
  let found = routes.find((each) => each.pattern === pattern);
  if (found === undefined) {
    found = { pattern, parts: split(pattern), view: null, load: null };
    routes.push(found);
  }
  return found;
}

const split = (path) => path.split("/").filter(Boolean);

/** Reads a fragment: `{ path, query }`. */
export function parseAddress(hash) {
  const text = hash.replace(/^#/, "");
  const at = text.indexOf("?");
  const path = at < 0 ? text : text.slice(0, at);
  const query = Object.fromEntries(new URLSearchParams(at < 0 ? "" : text.slice(at + 1)));
  return { path: `/${split(path).join("/")}`, query };
}

/** Returns a fragment's text: null, "" and false are left out of the query. */
export function address(path, query = {}) {
  const kept = Object.entries(query).filter(([, value]) =>
    value !== null && value !== undefined && value !== "" && value !== false);
  const text = new URLSearchParams(kept.map(([name, value]) => [name, String(value)])).toString();
  return `#${path}${text ? `?${text}` : ""}`;
}

/** Finds the route of a path: `{ route, params }`, or null. */
export function match(path) {
  const parts = split(path);
  for (const each of routes) {
    if (each.parts.length !== parts.length) continue;
    const params = {};
    const fits = each.parts.every((part, index) => {
      if (!part.startsWith(":")) return part === parts[index];
      params[part.slice(1)] = decode(parts[index]);
      return true;
    });
    if (fits) return { route: each, params };
  }
  return null;
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Returns what shows a path: `{ tag, title, params }`, or null. */
export async function find(path) {
  const found = match(path);
  if (found === null) return null;
  if (found.route.view === null) await found.route.load?.();
  return found.route.view === null ? null : { ...found.route.view, params: found.params };
}

export const query = () => parseAddress(location.hash).query;

/** Shows a path. */
export function go(path, asked = {}) {
  location.hash = address(path, asked);
}

/** Changes names of the query, in place: the view that is shown stays. */
export function setQuery(changes) {
  const now = parseAddress(location.hash);
  history.replaceState(null, "", address(now.path, { ...now.query, ...changes }));
}

/** A link to a path. */
export function link(path, text, asked = {}) {
  const element = document.createElement("a");
  element.href = address(path, asked);
  if (text instanceof Node) element.append(text);
  else element.textContent = text;
  return element;
}

// What looks the same everywhere.

// The icons of the navigation: strokes on a field of 24 by 24.
const PATHS = {
  swarm: "M12 3l4 2.3v4.6L12 12.200 8 9.900V5.300zM6.500 12l4 2.300v4.600l-4 2.300-4-2.300v-4.600z" +
    "M17.500 12l4 2.300v4.600l-4 2.300-4-2.300v-4.600z",
  overview: "M4 4h7v7H4zM13 4h7v4h-7zM13 10h7v10h-7zM4 13h7v7H4z",
  jobs: "M4 6h16M4 12h16M4 18h10",
  submit: "M12 19V6M6.500 11.500L12 6l5.500 5.500M4 21h16",
  nodes: "M4 5h16v9H4zM9 19h6M12 14v5",
  events: "M3 12h4l3-8 4 16 3-8h4",
  invite: "M4 4h6v6H4zM14 4h6v6h-6zM4 14h6v6H4zM14 14h2v2h-2zM18 18h2v2h-2zM18 14h2M14 19v1",
  automations: "M13 3L5 14h6l-1 7 8-11h-6z",
  repairs: "M14 7a4 4 0 0 1 5.500-3.700L16.500 6.300l1.200 1.200 3-3A4 4 0 0 1 15 10l-8.500 8.500-2-2L13 8z",
  configuration: "M4 7h9M17 7h3M4 17h3M11 17h9M13 5v4h4V5zM7 15v4h4v-4z",
  health: "M12 20S4 15 4 9.300A4.300 4.300 0 0 1 12 7a4.300 4.300 0 0 1 8 2.300C20 15 12 20 12 20z",
};

export function icon(name) {
  return s("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", fill: "none",
    stroke: "currentColor", "stroke-width": "1.7", "stroke-linejoin": "round",
    "stroke-linecap": "round" }, s("path", { d: PATHS[name] }));
}

// What states look like: each has a colour and a word.
const KINDS = {
  up: "ok", draining: "warn", drained: "warn", down: "", banned: "bad", pending: "info",
  approved: "info", queued: "warn", running: "info", completed: "ok", failed: "bad", cancelled: "",
  open: "info", used: "ok", expired: "",
};

/** A state as a badge; `kind` if it is none of those above. */
export function badge(state, kind = KINDS[state] ?? "") {
  return h("span.badge", { class: kind && `badge-${kind}` }, state);
}

/** Names and what they are; those of null are left out. */
export const facts = (pairs) => h("dl.facts", pairs.filter(([, value]) => value !== null)
  .map(([name, value]) => [h("dt", name), h("dd", value)]));

/** A bar with what is done, what failed, and how much that is of all. */
class Progress extends HTMLElement {
  #done = h("span.progress-done");
  #failed = h("span.progress-failed");
  #text = h("span.progress-text");

  /** `{done, total, failed?, unit?, label?}`; a total of null is one that nobody knows yet. */
  set value({ done, total, failed = 0, unit = "items", label = "Progress" }) {
    if (!this.firstChild) {
      this.append(h("span.progress-bar", this.#done, this.#failed), this.#text);
      this.setAttribute("role", "progressbar");
      this.setAttribute("aria-valuemin", "0");
      this.setAttribute("aria-valuemax", "100");
    }
    const share = total ? Math.min(100, (100 * done) / total) : 0;
    const bad = total ? Math.min(100 - share, (100 * failed) / total) : 0;
    this.#done.style.width = `${share}%`;
    this.#failed.style.width = `${bad}%`;
    const of = total === null || total === undefined ? count(done, unit)
      : `${count(done)} of ${count(total, unit)}`;
    setText(this.#text, failed ? `${of}, ${count(failed)} failed` : of);
    this.setAttribute("aria-label", label);
    this.setAttribute("aria-valuenow", Math.floor(share));
    this.setAttribute("aria-valuetext", this.#text.textContent);
  }
}

customElements.define("hub-progress", Progress);

/** Makes a bar. */
export function progress(value) {
  const element = document.createElement("hub-progress");
  element.value = value;
  return element;
}
