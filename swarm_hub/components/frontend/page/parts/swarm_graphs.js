/** What the swarm did and how busy it was, up to now. */
import { h, replace, View } from "../core/dom.js";
import { store, tally } from "../core/store.js";
import { graph, remembered } from "./graph.js";

const WINDOW_S = 600;

class SwarmGraphs extends View {
  #done = graph({ title: "Throughput", unit: "shards/s", seconds: WINDOW_S, series: [] });
  #busy = graph({ title: "Slots", unit: "slots", seconds: WINDOW_S, series: [] });
  #before = [];

  render() {
    replace(this, h("section.card", h("h2", "Throughput"), this.#done),
      h("section.card", h("h2", "Slots"), this.#busy));
    this.on(store, "history", () => this.#draw());
    this.#draw();
    remembered(null, this.signal).then(({ shards_per_s: shards = [], assignments, slots }) => {
      this.#before = shards.map(([at, value], index) => ({ at, shards: value,
        busy: assignments[index][1] === null ? null
          : Math.min(assignments[index][1], slots[index][1] ?? 0) }));
      this.#draw();
    });
  }

  #draw() {
    const points = (name) => [...this.#before, ...store.history]
      .filter((each, index, all) => index === 0 || each.at > all[index - 1].at)
      .map((each) => [each.at, each[name]]);
    this.#done.value = { series: [{ label: "Shards done", color: "--graph-1",
      points: points("shards") }] };
    this.#busy.value = { most: Math.max(1, tally(store.nodes.values()).slots), series: [
      { label: "Busy", color: "--graph-2", points: points("busy") }] };
  }
}

customElements.define("hub-swarm-graphs", SwarmGraphs);
