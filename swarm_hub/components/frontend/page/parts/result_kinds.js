/** What bytes are, by how they begin, and what is in an archive; pure. */
const ENTRIES = 500;
const BLOCK = 512;
const IMAGES = [
  ["image/png", [0x89, 0x50, 0x4e, 0x47]],
  ["image/jpeg", [0xff, 0xd8, 0xff]],
  ["image/gif", [0x47, 0x49, 0x46, 0x38]],
  ["image/bmp", [0x42, 0x4d]],
];
const latin = (found) => String.fromCharCode(...found);

/** What kind of bytes these are, by how they begin: "image/…", "tar", "zip", "text" or "bytes". */
export function kindOf(head) {
  const image = IMAGES.find(([, magic]) => magic.every((each, at) => head[at] === each));
  if (image) return image[0];
  if (latin(head.subarray(0, 4)) === "RIFF" && latin(head.subarray(8, 12)) === "WEBP")
    return "image/webp";
  if (latin(head.subarray(257, 262)) === "ustar") return "tar";
  if (latin(head.subarray(0, 4)) === "PK\x03\x04") return "zip";
  try {
    // Its end may be in the midst of a letter.
    new TextDecoder("utf-8", { fatal: true }).decode(head, { stream: true });
    return head.includes(0) ? "bytes" : "text";
  } catch {
    return "bytes";
  }
}

/** The files of a tar archive, as far as it is here. */
export function tarEntries(data) {
  const found = [];
  const text = (from, length) =>
    new TextDecoder().decode(data.subarray(from, from + length)).replace(/\0.*$/s, "");
  for (let at = 0; at + BLOCK <= data.length && data[at] !== 0 && found.length < ENTRIES;) {
    const size = parseInt(text(at + 124, 12).trim(), 8) || 0;
    const folder = text(at + 345, 155);
    const name = (folder ? `${folder}/` : "") + text(at, 100);
    if ("05\0".includes(latin(data.subarray(at + 156, at + 157)))) found.push({ name, size });
    at += BLOCK + BLOCK * Math.ceil(size / BLOCK);
  }
  return found;
}

/** The files of a zip archive, by the directory at its end. */
export function zipEntries(data) {
  const found = [];
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let end = data.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end -= 1;
  if (end < 0) return found;
  for (let at = view.getUint32(end + 16, true); at + 46 <= end && found.length < ENTRIES;) {
    if (view.getUint32(at, true) !== 0x02014b50) break;
    const length = view.getUint16(at + 28, true);
    const name = new TextDecoder().decode(data.subarray(at + 46, at + 46 + length));
    found.push({ name, size: view.getUint32(at + 24, true) });
    at += 46 + length + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  }
  return found;
}

/** Bytes as a dump. */
export function hexLines(data) {
  const lines = [];
  const hex = (value, width) => value.toString(16).padStart(width, "0");
  for (let at = 0; at < data.length; at += 16) {
    const row = data.subarray(at, at + 16);
    const shown = Array.from(row, (each) => hex(each, 2)).join(" ").padEnd(48);
    lines.push(`${hex(at, 6)}  ${shown} ${latin(row).replace(/[^ -~]/g, ".")}`);
  }
  return lines.join("\n");
}
