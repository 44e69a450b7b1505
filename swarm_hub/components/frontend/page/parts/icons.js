/** The icons of the navigation: strokes on a field of 24 by 24. */
import { s } from "../core/dom.js";

const PATHS = {
  swarm: "M12 3l4 2.3v4.6L12 12.200 8 9.900V5.300zM6.500 12l4 2.300v4.600l-4 2.300-4-2.300v-4.600z" +
    "M17.500 12l4 2.300v4.600l-4 2.300-4-2.300v-4.600z",
  overview: "M4 4h7v7H4zM13 4h7v4h-7zM13 10h7v10h-7zM4 13h7v7H4z",
  jobs: "M4 6h16M4 12h16M4 18h10",
  submit: "M12 19V6M6.500 11.500L12 6l5.500 5.500M4 21h16",
  nodes: "M4 5h16v9H4zM9 19h6M12 14v5",
  events: "M3 12h4l3-8 4 16 3-8h4",
  invite: "M4 4h6v6H4zM14 4h6v6h-6zM4 14h6v6H4zM14 14h2v2h-2zM18 18h2v2h-2zM18 14h2M14 19v1",
  health: "M12 20S4 15 4 9.300A4.300 4.300 0 0 1 12 7a4.300 4.300 0 0 1 8 2.300C20 15 12 20 12 20z",
};

export function icon(name) {
  return s("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", fill: "none",
    stroke: "currentColor", "stroke-width": "1.7", "stroke-linejoin": "round",
    "stroke-linecap": "round" }, s("path", { d: PATHS[name] }));
}
