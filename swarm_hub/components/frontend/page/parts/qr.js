/** A QR code of the rows that the hub sends: texts of 0 and 1. */
import { s } from "../core/dom.js";

const QUIET = 4;

export function qr(rows, label) {
  const size = rows.length + 2 * QUIET;
  let path = "";
  rows.forEach((row, y) => {
    for (const { index, 0: { length } } of row.matchAll(/1+/g)) {
      path += `M${index + QUIET} ${y + QUIET}h${length}v1h-${length}z`;
    }
  });
  return s("svg.qr", { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": label,
    "shape-rendering": "crispEdges" }, s("path", { d: path, fill: "currentColor" }));
}
