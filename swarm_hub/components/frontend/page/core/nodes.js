/** What a node's values come to. */

/** Why a node that is connected takes no work, or runs less than it could; null if neither. */
export function whyIdle(node) {
  if (node.state === "banned") return node.ban_reason || "banned";
  if (node.state === "drained" || node.state === "draining") return node.drain_reason || node.state;
  if (node.state === "pending") return "waits for approval";
  if (node.refuses) return node.refuses;
  if (node.quarantines.length) return `kept from a module: ${node.quarantines[0].reason}`;
  return node.telemetry?.slower ?? null;
}

/** How many shards a node runs at once for now; null if it is not connected. */
export const slotsOf = (node) => (node.slots === null ? null : node.telemetry?.slots ?? node.slots);

/** How many of these have a shard; it may have been given more, which wait there. */
export const busySlots = (node) => Math.min(node.assignments, slotsOf(node) ?? 0);

/** The slots of a node in words. */
export function slotWords(node) {
  const slots = slotsOf(node);
  if (slots === null) return "not connected";
  const ahead = node.assignments - busySlots(node);
  return `${busySlots(node)} of ${slots}${ahead ? `, ${ahead} next` : ""}`;
}

/** The working, waiting, suspended and absent among the nodes. */
export function tally(nodes) {
  const found = { up: 0, working: 0, waiting: 0, suspended: 0, pending: 0, banned: 0, slots: 0,
    busy: 0, reasons: new Map() };
  for (const node of nodes) {
    if (node.state === "pending") found.pending += 1;
    if (node.state === "banned") found.banned += 1;
    if (!isConnected(node)) continue;
    found.up += 1;
    found.busy += busySlots(node);
    found.slots += slotsOf(node) ?? 0;
    if (node.assignments) {
      found.working += 1;
    } else if (node.refuses || node.state !== "up") {
      found.suspended += 1;
      const reason = whyIdle(node);
      found.reasons.set(reason, (found.reasons.get(reason) ?? 0) + 1);
    } else {
      found.waiting += 1;
    }
  }
  return found;
}

export const isConnected = (node) => ["up", "draining", "drained"].includes(node.state) &&
  node.slots !== null;
