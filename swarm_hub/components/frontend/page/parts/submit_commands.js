/** A submission as a command line and as curl has it; pure. */
const FLAGS = {
  abi: "--abi",
  entry: "--entry",
  split: "--split",
  reduce: "--reduce",
  name: "--name",
  priority: "--priority",
  deadline_s: "--deadline",
  shard_size: "--shard-size",
  redundancy: "--redundancy",
  on_error: "--on-error",
  max_failures: "--max-failures",
};
const LIMITS = { memory: "--limits.memory", wall_time: "--limits.wall-time" };

/** A word as a shell takes it. */
export function quoted(word) {
  const text = String(word);
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

// What begins with a dash would be taken for an option.
const file = (name) => quoted(name.startsWith("-") ? `./${name}` : name);

/** `what`: `{module, script, kind, files, range, url}`. */
export function commandLine({ module, script, kind, files, range }, spec) {
  const words = ["swarm-hub submit"];
  const options = [];
  for (const [key, flag] of Object.entries(FLAGS)) {
    if (spec[key] === undefined || (key === "split" && kind === "range")) continue;
    options.push(`${flag} ${quoted(key === "deadline_s" ? `${spec[key]}s` : spec[key])}`);
  }
  for (const [key, flag] of Object.entries(LIMITS))
    if (spec.limits?.[key] !== undefined) options.push(`${flag} ${quoted(spec.limits[key])}`);
  for (const [name, value] of Object.entries(spec.labels ?? {}))
    options.push(`--label ${quoted(`${name}=${value}`)}`);
  for (const arg of spec.args ?? []) options.push(`--arg ${quoted(arg)}`);
  const name = module === null ? "MODULE" : file(module);
  if (script !== null) words.push(`--with ${name}`, file(script));
  else words.push(name);
  if (kind === "range") options.push(`--range ${range}`);
  else if (kind === "text") words.push("items.txt");
  else words.push(...files.slice(0, 20).map(file), ...(files.length > 20 ? ["…"] : []));
  return [...words, ...options, "--watch"].join(" ");
}

// What these mean to curl they shall not mean in a name.
const part = (name) => (/[;,"]/.test(name) ? `@"${name.replace(/["\\]/g, "\\$&")}"` : `@${name}`);

/** The same with curl, with `TOKEN` in the environment. */
export function curl({ module, script, kind, files, range, url }, spec) {
  const lines = [
    `curl -H "Authorization: Bearer $TOKEN"`,
    `-F ${quoted(`module=${part(module ?? "MODULE")}`)}`,
  ];
  if (script !== null) lines.push(`-F ${quoted(`script=${part(script)}`)}`);
  if (kind === "range") lines.push(`-F dataset=${range}`);
  else
    for (const name of kind === "text" ? ["items.txt"] : files.slice(0, 20))
      lines.push(`-F ${quoted(`dataset=${part(name)}`)}`);
  if (Object.keys(spec).length) lines.push(`-F ${quoted(`spec=${JSON.stringify(spec)}`)}`);
  return [...lines, `${url}/api/v1/jobs`].join(" \\\n  ");
}
