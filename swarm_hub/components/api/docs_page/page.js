// Shows the API as the hub describes it; everything is made of text nodes, nothing of markup.
"use strict";

const KEPT = "swarm_hub.docs.token";
const METHODS = ["get", "post", "put", "patch", "delete"];
const DEPTH_MAX = 6;
const $ = (id) => document.getElementById(id);
let api = {};

function make(kind, options = {}, ...children) {
  const element = document.createElement(kind);
  for (const [name, value] of Object.entries(options)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// What stands between backticks is code.
function prose(text) {
  return String(text).split("`").map((part, at) => (at % 2 ? make("code", {}, part) : part));
}

// A path may be broken after each of its parts.
function breakable(path) {
  return path.split(/(?=\/)/).flatMap((part) => [part, make("wbr")]);
}

function resolved(value) {
  if (!value || !value.$ref) return value || {};
  return value.$ref.slice(2).split("/").reduce((found, part) => found[part], api);
}

function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" | ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" | ");
  if (schema.type === "array") return `[${typeOf(schema.items || {})}]`;
  if (schema.format === "binary") return "bytes";
  const kind = [].concat(schema.type || "any");
  return kind.length > 5 ? "any" : kind.join(" | ");
}

function boundsOf(schema) {
  const said = [];
  const { minimum: low, maximum: high, minLength: shortest, maxLength: longest } = schema;
  if (low !== undefined && high !== undefined) said.push(`${low} to ${high}`);
  else if (low !== undefined) said.push(`at least ${low}`);
  if (longest !== undefined) said.push(`${shortest ? `${shortest} to` : "at most"} ${longest} characters`);
  if (schema.pattern) said.push(`like ${schema.pattern}`);
  if (schema.default !== undefined) said.push(`default ${JSON.stringify(schema.default)}`);
  return said.join(", ");
}

// The schemas within one, to be opened: of an array its items, of a choice what is no plain type.
function insideOf(schema) {
  const whole = resolved(schema);
  if (whole.type === "array") return insideOf(whole.items || {});
  if (whole.anyOf) return whole.anyOf.map(insideOf).find((found) => found) || null;
  return whole.properties && Object.keys(whole.properties).length ? whole : null;
}

function fieldsOf(schema, depth = 0) {
  const list = make("ul");
  const required = schema.required || [];
  for (const [name, field] of Object.entries(schema.properties || {})) {
    const bounds = boundsOf(field);
    const head = [
      make("code", {}, name), required.includes(name) ? "" : "?", " ",
      make("span", { class: "type" }, typeOf(field), bounds ? ` (${bounds})` : ""),
      field.description ? make("span", { class: "soft" }, " ", ...prose(field.description)) : null,
    ];
    const inside = depth < DEPTH_MAX ? insideOf(field) : null;
    list.append(make("li", {}, inside === null ? make("span", {}, ...head) : opened(head, inside, depth)));
  }
  return list;
}

function opened(head, inside, depth) {
  const box = make("details", {}, make("summary", {}, ...head));
  // What is closed is made when it is opened: shapes may hold themselves.
  box.addEventListener("toggle", () => {
    if (box.open && box.children.length === 1) box.append(fieldsOf(inside, depth + 1));
  });
  return box;
}

function schemaOf(schema) {
  const box = make("div", { class: "schema" });
  const inside = insideOf(schema);
  const whole = resolved(schema);
  if (whole.description) box.append(make("p", { class: "soft" }, ...prose(whole.description)));
  box.append(inside === null ? make("p", {}, make("code", {}, typeOf(schema))) : fieldsOf(inside));
  return box;
}

function pretty(value) {
  return JSON.stringify(value, null, 2);
}

function quoted(text) {
  return `'${String(text).replaceAll("'", "'\\''")}'`;
}

function curlOf(method, path, call) {
  let query = "";
  const lines = [];
  for (const each of call.parameters || []) {
    if (each.in === "query" && each.required) {
      query += `${query ? "&" : "?"}${each.name}=${each.name.toUpperCase()}`;
    }
  }
  const address = path.replace(/\{(\w+)\}/g, (_, name) => name.toUpperCase()) + query;
  if (method !== "get") lines.push(`-X ${method.toUpperCase()}`);
  if (call.security.length) lines.push('-H "Authorization: Bearer $SWARM_HUB_TOKEN"');
  const content = (call.requestBody || {}).content || {};
  const json = content["application/json"];
  if (content["multipart/form-data"]) {
    lines.push("-F module=@sum.wasm", "-F dataset=@numbers.bin", `-F ${quoted('spec={"reduce": "sum"}')}`);
  } else if (json) {
    lines.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(json.example || {}))}`);
  } else if (Object.keys(content).length) {
    const kind = Object.keys(content)[0];
    if (kind !== "*/*") lines.push(`-H 'Content-Type: ${kind}'`);
    lines.push("--data-binary @FILE");
  }
  const answers = Object.entries(call.responses).filter(([status]) => status === "200");
  const kinds = Object.keys((answers[0] || [0, {}])[1].content || {});
  if (kinds.some((kind) => kind.endsWith("octet-stream"))) lines.push("-o FILE");
  if (kinds.includes("text/event-stream")) lines.unshift("-N");
  return [`curl "${location.origin}${address}"`, ...lines].join(" \\\n  ");
}

function copied(text) {
  const button = make("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    // Without TLS a browser has no clipboard except on the device itself.
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(box.firstChild);
      button.textContent = "Press Ctrl+C";
    }
  });
  const box = make("div", { class: "copied" }, make("pre", { class: "curl" }, text), button);
  return box;
}

function parametersOf(call) {
  const table = make("table");
  for (const each of call.parameters || []) {
    const bounds = boundsOf(each.schema);
    table.append(make("tr", {},
      make("td", {}, make("code", {}, each.name), each.required ? "" : "?"),
      make("td", {}, make("span", { class: "soft" }, `${each.in}, `), typeOf(each.schema),
        bounds ? ` (${bounds})` : "", ...prose(each.description ? `. ${each.description}` : "")),
    ));
  }
  return table;
}

function contentOf(content) {
  return Object.entries(content || {}).map(([kind, media]) => {
    const schema = media.schema || {};
    const box = make("details", { class: "content" },
      make("summary", {}, make("code", {}, kind), " ", make("span", { class: "soft" }, typeOf(schema))),
      schemaOf(schema));
    for (const line of [].concat(media["x-lines"] || [], media["x-event"] || [])) box.append(schemaOf(line));
    if (media.example !== undefined) {
      box.append(make("details", {}, make("summary", { class: "soft" }, "Example"),
        make("pre", {}, pretty(media.example))));
    }
    return box;
  });
}

function answersOf(call) {
  const table = make("table");
  for (const [status, given] of Object.entries(call.responses)) {
    const answer = resolved(given);
    const what = make("td", {}, answer.description);
    // Refusals have one shape, which is told once.
    if (!given.$ref) what.append(...contentOf(answer.content));
    const headers = Object.keys(answer.headers || {});
    if (headers.length) what.append(make("p", { class: "soft" }, `Headers: ${headers.join(", ")}`));
    const links = Object.values(answer.links || {});
    if (links.length) {
      const list = make("p", { class: "soft" }, "Leads to ");
      links.forEach((link, at) => list.append(at ? ", " : "",
        make("a", { href: `#${link.operationId}` }, link.operationId)));
      what.append(list);
    }
    table.append(make("tr", {}, make("td", {}, make("code", {}, status)), what));
  }
  return table;
}

function commandsOf(call) {
  const list = make("div");
  for (const each of call["x-commands"] || []) {
    list.append(make("details", { class: "call" },
      make("summary", {}, make("code", {}, each.type),
        make("span", { class: "said" }, each.summary), make("span", { class: "scope" }, each.scope)),
      make("div", { class: "inside" }, make("h3", {}, "Takes"), schemaOf(each.params),
        make("h3", {}, "Gives"), schemaOf(each.result))));
  }
  return list;
}

function insideOfCall(method, path, call) {
  const box = make("div", { class: "inside" });
  if (call.description) box.append(make("p", {}, ...prose(call.description)));
  if (call.operationId !== "get_websocket") box.append(copied(curlOf(method, path, call)));
  if ((call.parameters || []).length) box.append(make("h3", {}, "Parameters"), parametersOf(call));
  if (call.requestBody) box.append(make("h3", {}, "Body"), ...contentOf(call.requestBody.content));
  const first = box.querySelector("details.content");
  if (first) first.open = true;
  box.append(make("h3", {}, "Answers"), answersOf(call));
  if ((call["x-commands"] || []).length) box.append(make("h3", {}, "Commands"), commandsOf(call));
  return box;
}

function callOf(method, path, call) {
  const scope = call.security.length ? call.security[0].bearer[0] : "no token";
  const box = make("details", { class: "call", id: call.operationId },
    make("summary", {}, make("span", { class: `method ${method}` }, method.toUpperCase()),
      make("span", { class: "path" }, ...breakable(path)),
      make("span", { class: "said" }, ...prose(call.summary)),
      make("span", { class: "scope" }, scope)));
  box.addEventListener("toggle", () => {
    if (box.open && box.children.length === 1) box.append(insideOfCall(method, path, call));
  });
  return box;
}

function show() {
  $("calls").replaceChildren();
  $("index").replaceChildren();
  for (const { name } of api.tags) {
    const calls = [];
    for (const [path, item] of Object.entries(api.paths)) {
      for (const method of METHODS) {
        const call = item[method];
        if (call && call.tags.includes(name)) calls.push([method, path, call]);
      }
    }
    $("calls").append(make("h2", {}, name), ...calls.map((each) => callOf(...each)));
    $("index").append(make("li", { class: "tag" }, name), ...calls.map(([method, path, call]) =>
      make("li", {}, make("a", { href: `#${call.operationId}` },
        make("span", { class: `method ${method}` }, method.toUpperCase()),
        make("span", {}, ...breakable(path.replace("/api/v1", "")))))));
  }
  const shapes = Object.entries(api.components.schemas).map(([name, schema]) =>
    opened([make("code", {}, name), make("span", { class: "soft" }, " ", ...prose((schema.description || "").split("\n")[0]))],
      schema, 0));
  $("calls").append(make("h2", {}, "Shapes"), make("div", { class: "schema" }, ...shapes));
  $("about").replaceChildren(...prose(api.info.description));
  $("body").hidden = false;
  follow();
}

function follow() {
  const wanted = document.getElementById(location.hash.slice(1));
  if (wanted && wanted.matches("details.call")) {
    wanted.open = true;
    wanted.scrollIntoView();
  }
}

function find() {
  const wanted = $("filter").value.trim().toLowerCase();
  for (const call of document.querySelectorAll("main > details.call")) {
    call.hidden = !call.firstChild.textContent.toLowerCase().includes(wanted);
  }
}

async function open(token) {
  $("problem").hidden = true;
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch("/api/v1/openapi.json", { headers });
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.message);
    api = told;
    if (token) sessionStorage.setItem(KEPT, token);
    $("token").value = "";
    $("forget").hidden = false;
    show();
  } catch (error) {
    $("problem").textContent = error.message;
    $("problem").hidden = false;
  }
}

$("open").addEventListener("submit", (event) => {
  event.preventDefault();
  open($("token").value.trim());
});
$("forget").addEventListener("click", () => {
  sessionStorage.removeItem(KEPT);
  location.reload();
});
$("filter").addEventListener("input", find);
addEventListener("hashchange", follow);
if (sessionStorage.getItem(KEPT)) open(sessionStorage.getItem(KEPT));
