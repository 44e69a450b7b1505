/** What the hub remembers of its last hour; nothing, where it does not remember. */
import { api } from "../core/api.js";

const MIB = 1024 ** 2;

/** `{name: [[t, value], …]}`; of a node, or of the whole swarm if `node` is null. */
async function columns(node, signal) {
  const { t, columns: found } = await api.get("/telemetry/history", { query: { node }, signal })
    .catch(() => ({ t: [], columns: [] }));
  return Object.fromEntries(found.map(({ name, values }) =>
    [name, values.map((value, index) => [t[index], value])]));
}

/** The swarm's: `[{at, shards, items, busy}]`. */
export async function hubHistory(signal) {
  const { shards_per_s: shards = [], items_per_s: items, assignments, slots } =
    await columns(null, signal);
  return shards.map(([at, value], index) => ({ at, shards: value, items: items[index][1],
    busy: assignments[index][1] === null ? null
      : Math.min(assignments[index][1], slots[index][1] ?? 0) }));
}

/** A node's, named as its telemetry is: `{cpu_percent: [[t, value]], …}`. */
export async function nodeHistory(id, signal) {
  const { available_memory_mib: free = [], ...rest } = await columns(id, signal);
  return { ...rest,
    available_memory_bytes: free.map(([t, mib]) => [t, mib === null ? null : mib * MIB]) };
}
