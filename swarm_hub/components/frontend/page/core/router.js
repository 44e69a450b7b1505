/** What the part of the address after `#` shows: `#/jobs?state=running`. */
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
export function parse(hash) {
  const text = hash.replace(/^#/, "");
  const at = text.indexOf("?");
  const path = at < 0 ? text : text.slice(0, at);
  const query = Object.fromEntries(new URLSearchParams(at < 0 ? "" : text.slice(at + 1)));
  return { path: `/${split(path).join("/")}`, query };
}

/** Returns a fragment's text; null, "" and false are left out of the query. */
export function format(path, query = {}) {
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

export const query = () => parse(location.hash).query;

/** Shows a path. */
export function go(path, asked = {}) {
  location.hash = format(path, asked);
}

/** Changes names of the query, in place: the view that is shown stays. */
export function setQuery(changes) {
  const now = parse(location.hash);
  history.replaceState(null, "", format(now.path, { ...now.query, ...changes }));
}

/** A link to a path. */
export function link(path, text, asked = {}) {
  const element = document.createElement("a");
  element.href = format(path, asked);
  if (text instanceof Node) element.append(text);
  else element.textContent = text;
  return element;
}
