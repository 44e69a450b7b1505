/** A submission as a command line and as curl has it; pure. */
const FLAGS = ["abi", "entry", "split", "reduce", "name", "priority", "deadline_s", "shard_size",
  "redundancy", "on_error", "max_failures"];
const FILES_MAX = 20;

/** A word as a shell takes it. */
function quoted(word) {
  const text = String(word);
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

// What begins with a dash would be taken for an option.
const file = (name) => quoted(name.startsWith("-") ? `./${name}` : name);
const flag = (name) => `--${name.replace(/_s$/, "").replaceAll("_", "-")}`;
const data = ({ kind, files }) => (kind === "text" ? ["items.txt"] : files.slice(0, FILES_MAX));

/** `what`: `{module, script, kind, files, range, url}`. */
export function commandLine(what, { limits = {}, labels = {}, args = [], ...spec }) {
  const { module, script, kind, files, range } = what;
  const name = module === null ? "MODULE" : file(module);
  const isRange = kind === "range";
  const flags = FLAGS.filter((key) => spec[key] !== undefined && !(key === "split" && isRange));
  return [
    "swarm-hub submit",
    ...(script === null ? [name] : [module !== null && `--with ${name}`, file(script)]),
    ...(isRange ? [] : data(what).map(file)),
    ...(!isRange && kind !== "text" && files.length > FILES_MAX ? ["…"] : []),
    ...flags.map((key) => `${flag(key)} ${quoted(spec[key] + (key === "deadline_s" ? "s" : ""))}`),
    ...Object.entries(limits).map(([key, value]) => `${flag(`limits.${key}`)} ${quoted(value)}`),
    ...Object.entries(labels).map(([key, value]) => `--label ${quoted(`${key}=${value}`)}`),
    ...args.map((arg) => `--arg ${quoted(arg)}`),
    ...(isRange ? [`--range ${range}`] : []),
    "--watch",
  ].filter(Boolean).join(" ");
}

// What these mean to curl they shall not mean in a name.
const part = (name) => (/[;,"]/.test(name) ? `@"${name.replace(/["\\]/g, "\\$&")}"` : `@${name}`);

/** The same with curl, with `TOKEN` in the environment. */
export function curl(what, spec) {
  const { module, script, kind, range, url } = what;
  const parts = [
    (module !== null || script === null) && `module=${part(module ?? "MODULE")}`,
    script !== null && `script=${part(script)}`,
    ...(kind === "range" ? [range] : data(what).map(part)).map((each) => `dataset=${each}`),
    Object.keys(spec).length > 0 && `spec=${JSON.stringify(spec)}`,
  ].filter(Boolean);
  return ['curl -H "Authorization: Bearer $TOKEN"', ...parts.map((each) => `-F ${quoted(each)}`),
    `${url}/api/v1/jobs`].join(" \\\n  ");
}
