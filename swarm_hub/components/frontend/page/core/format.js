/** Values as people read them: with a unit, times in the reader's zone. What is unknown is "–". */
export const UNKNOWN = "–";

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const MINUTE = 60;
const HOUR = 3600;
const DAY = 86_400;

const isMissing = (value) => value === null || value === undefined || Number.isNaN(value);

/** 1536 → "1.5 KiB" */
export function bytes(value) {
  if (isMissing(value)) return UNKNOWN;
  let size = value;
  let unit = 0;
  while (Math.abs(size) >= 1024 && unit < BYTE_UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? size : short(size)} ${BYTE_UNITS[unit]}`;
}

/** 0.0042 → "4.2 ms", 90 → "1 min 30 s", 100000 → "1 d 3 h" */
export function duration(seconds) {
  if (isMissing(seconds)) return UNKNOWN;
  if (seconds < 0) return `−${duration(-seconds)}`;
  if (seconds === 0) return "0 s";
  if (seconds < 0.001) return `${short(seconds * 1e6)} µs`;
  if (seconds < 1) return `${short(seconds * 1000)} ms`;
  if (seconds < 10) return `${short(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return two(whole, MINUTE, "min", 1, "s");
  if (whole < DAY) return two(whole, HOUR, "h", MINUTE, "min");
  return two(whole, DAY, "d", HOUR, "h");
}

function two(value, large, largeName, small, smallName) {
  const rest = Math.floor((value % large) / small);
  return `${Math.floor(value / large)} ${largeName}${rest ? ` ${rest} ${smallName}` : ""}`;
}

/** 12345 → "12,345" in the reader's way; with a unit "12,345 shards" */
export function count(value, unit) {
  if (isMissing(value)) return UNKNOWN;
  const text = value.toLocaleString();
  return unit ? `${text} ${value === 1 ? unit.replace(/s$/, "") : unit}` : text;
}

/** 12.34 → "12.3 shards/s" */
export function rate(perSecond, unit = "shards") {
  return isMissing(perSecond) ? UNKNOWN : `${short(perSecond)} ${unit}/s`;
}

/** 42.5 → "43 %" */
export function percent(value) {
  return isMissing(value) ? UNKNOWN : `${Math.round(value)} %`;
}

/** 36.6 → "37 °C" */
export function temperature(celsius) {
  return isMissing(celsius) ? UNKNOWN : `${Math.round(celsius)} °C`;
}

/** Three digits are enough: 1234.5 → "1,235", 12.34 → "12.3", 0.1234 → "0.12" */
export function short(value) {
  const size = Math.abs(value);
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 1 ? 1 : 2;
  return value.toLocaleString(undefined, { maximumFractionDigits: digits });
}

/** The time of day, with the date unless it is today's. */
export function clock(iso, now = new Date()) {
  const at = asDate(iso);
  if (at === null) return UNKNOWN;
  const time = at.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit",
    second: "2-digit" });
  return at.toDateString() === now.toDateString() ? time : `${at.toLocaleDateString()} ${time}`;
}

/** "12 s ago", "in 3 min" */
export function ago(iso, now = Date.now()) {
  const at = asDate(iso);
  if (at === null) return UNKNOWN;
  const seconds = (now - at.getTime()) / 1000;
  const size = Math.abs(seconds);
  if (size < 1.5) return "now";
  const text = largest(size);
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}

function largest(seconds) {
  if (seconds < MINUTE) return `${Math.round(seconds)} s`;
  if (seconds < HOUR) return `${Math.round(seconds / MINUTE)} min`;
  return seconds < DAY ? `${Math.round(seconds / HOUR)} h` : `${Math.round(seconds / DAY)} d`;
}

/** A `<time>` with the moment in full as its title; `show` is `ago` or `clock`. */
export function timeElement(iso, show = ago) {
  const element = document.createElement("time");
  const at = asDate(iso);
  element.textContent = show(iso);
  if (at !== null) {
    element.dateTime = at.toISOString();
    element.title = at.toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" });
  }
  return element;
}

/** The beginning of an id, enough to tell it apart. */
export function shortId(id) {
  const text = String(id ?? "");
  return text.length > 14 ? `${text.slice(0, 4)}…${text.slice(-6)}` : text;
}

function asDate(iso) {
  if (iso === null || iso === undefined) return null;
  const at = iso instanceof Date ? iso : new Date(iso);
  return Number.isNaN(at.getTime()) ? null : at;
}
