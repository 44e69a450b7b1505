/** What a submit form means: the spec that its fields say, and the body that is sent. */
import { upload } from "./upload.js";

// Larger files are uploaded by themselves, so that a connection that breaks costs nothing.
const BLOB_BYTES = 8 * 1024 * 1024;
const FILES_MAX = 1000;
export const SPLITS = ["i32", "lines", "json", "files", "args", "range"];
export const REDUCES = ["sum", "min", "max", "count", "concat", "json", "list", "files", "module"];
// How a module of an abi is mostly used: split and reduce.
const USES = { "i32-array": ["i32", "sum"], range: ["range", "sum"],
  "wasi-files": ["files", "files"] };
const SPEC = ["abi", "entry", "split", "reduce", "on_error"].map((name) => [name, "", {}, String]);
const number = (min, max) => ({ type: "number", min, max });
// Name, label, attributes, how the text becomes a value of the spec.
export const OPTIONS = [
  ["name", "Name", { maxlength: 200 }, String],
  ["labels", "Labels, such as team=vision", { maxlength: 1000 }, labelsOf],
  ["priority", "Priority, from −100 to 100", number(-100, 100), Number],
  ["deadline_s", "Deadline in seconds", number(1), Number],
  ["shard_size", "Items in a shard", number(1), Number],
  ["redundancy", "Nodes that run each shard, or adaptive", {},
    (text) => (/^\d+$/.test(text) ? Number(text) : text)],
  ["args", "Arguments, separated by spaces", {}, (text) => text.split(/\s+/)],
  ["max_failures", "Items that may be left out, such as 10 or 5%", {},
    (text) => (text.endsWith("%") ? text : Number(text))],
  ["limits.memory", "Memory, such as 512MiB", {}, String],
  ["limits.wall_time", "Time of an attempt, such as 60 s", {}, String],
];

/** `team=vision, run=2` as an object; throws for what is none. */
export function labelsOf(text) {
  const labels = {};
  for (const part of text.split(",").map((each) => each.trim()).filter(Boolean)) {
    const at = part.indexOf("=");
    if (at < 1) throw new Error(`Write labels as name=value, not "${part}"`);
    labels[part.slice(0, at).trim()] = part.slice(at + 1).trim();
  }
  return labels;
}

/** How a module of an abi is mostly used. */
export function defaultsOf(abi, folds) {
  const [split, reduce] = USES[abi] ?? ["lines", abi === "bytes" && folds ? "module" : "concat"];
  return { split, reduce };
}

/** The spec as fields say it; one that can't be read throws an error with its name in `errors`. */
export function specOf(valueOf, kind) {
  const spec = {};
  for (const [name, , , read] of [...SPEC, ...OPTIONS]) {
    const text = valueOf(name);
    if (!text) continue;
    const [first, second] = name.split(".");
    try {
      spec[first] = second ? { ...spec[first], [second]: read(text) } : read(text);
    } catch (error) {
      throw Object.assign(error, { errors: [{ path: name, message: error.message }] });
    }
  }
  if (kind === "range") spec.split = "range";
  return spec;
}

/** The form to send, once large files are uploaded; `told(file, stage, share)` hears of these. */
export async function bodyOf(module, script, { kind, files, range, text }, spec, signal, told) {
  const form = new FormData();
  form.append("spec", new Blob([JSON.stringify(spec)], { type: "application/json" }));
  if (module) form.append("module", module);
  if (script) form.append("script", script);
  if (kind === "range") form.append("dataset", range);
  if (kind === "text") form.append("dataset", new File([text], "items.txt"));
  if (kind !== "files") return form;
  if (files.length > FILES_MAX)
    throw new Error(`At most ${FILES_MAX} files here; swarm-hub submit sends more`);
  for (const file of files) {
    if (file.size < BLOB_BYTES) form.append("dataset", file);
    else {
      const sha = await upload(file, signal, (stage, share) => told(file, stage, share));
      form.append("dataset_sha", new Blob([sha]), file.name);
    }
  }
  return form;
}
