/** Makes elements of plain values: what is not an element becomes text, never markup. */
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
