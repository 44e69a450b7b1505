/**
 * What happened to a job's shards, as columns of numbers: every attempt, the rows to draw them in,
 * and how things were at any moment. Pure: it knows no page, no clock and no network.
 */

// How an attempt ended; LIVE has not. A RETURNED one was lost, refused or too late, a SUPERSEDED one
// was beaten by another attempt at the same shard. Shards are SPLIT and RUNNING, too.
export const [LIVE, DONE, FAILED, RETURNED, SUPERSEDED, CANCELLED, SPLIT, RUNNING] =
  Array(8).keys();
export const STATE_WORDS = ["running", "done", "failed", "returned", "superseded", "cancelled"];
// A shard that is not given out.
export const POOL = 0;
// Why an attempt was made: the first, again after an end without a result, or beside another.
export const [FIRST, RETRY, COPY] = Array(3).keys();
export const KIND_WORDS = ["first attempt", "retry", "copy"];

const OUTCOMES = { offered: LIVE, accepted: LIVE, finished: DONE, rejected: RETURNED,
  expired: RETURNED, superseded: SUPERSEDED };
const SHARD_STATES = { done: DONE, dead: FAILED, skipped: FAILED, split: SPLIT,
  cancelled: CANCELLED };
// Times are told in milliseconds: what ends when the next begins may seem to overlap it.
const SAME_MS = 1;
// Of an attempt whose running time is unknown as much may have been waiting.
const WAITED_MAX = 0.5;
const REASON_MAX = 500;

// Columns with what is in them before it is known. `before` is the attempt before at the same
// shard, `ran` how long it ran; it is drawn from `from` to `to`.
const ATTEMPT = { shard: [Int32Array, 0], attempt: [Int32Array, 0], node: [Int32Array, 0],
  lane: [Int32Array, 0], before: [Int32Array, -1], state: [Uint8Array, LIVE],
  kind: [Uint8Array, FIRST], offered: [Float64Array, 0], ended: [Float64Array, Infinity],
  ran: [Float64Array, NaN], from: [Float64Array, 0], to: [Float64Array, 0] };
// `settled` is when a shard was done or failed, `newest` its newest attempt.
const SHARD = { first: [Float64Array, NaN], items: [Float64Array, 0],
  settled: [Float64Array, Infinity], state: [Uint8Array, POOL], newest: [Int32Array, -1] };

export class JobModel {
  nAttempts = 0;
  nShards = 0;
  nodes = [];
  // Grows with each change, so that who draws knows whether there is something to draw.
  version = 0;
  nDone = 0;
  nRetries = 0;
  nCopies = 0;
  start = Infinity;
  newest = -Infinity;
  columns = made(ATTEMPT);
  shards = made(SHARD);
  reasons = new Map();
  #nodeAt = new Map();
  #nUnplaced = 0;
  // Shards are cut one after the other, until one that failed is split.
  #isInOrder = true;
  #packed = -1;
  #lanes = { nLanes: 0, offsets: [], order: new Int32Array(0) };

  /** Whether events have not told all that a page tells: which attempts were lost beside others. */
  get isGuessed() {
    return this.hasUnplaced || !this.#isInOrder || this.nRetries + this.nCopies > 0;
  }

  /** Whether it is unknown where the items of some shard begin: that of a part is told by a page. */
  get hasUnplaced() {
    return this.#nUnplaced > 0;
  }

  /** The first shard of which that is unknown, the number of shards if there is none. */
  firstUnplaced() {
    const at = this.shards.first.subarray(0, this.nShards).findIndex(Number.isNaN);
    return at < 0 ? this.nShards : at;
  }

  /** Takes shards as `GET /jobs/{id}/shards` lists them; what it says replaces what was known. */
  addPage(shards) {
    for (const { index, state, first_item: first, n_items: n, attempts, result } of shards) {
      this.#reach(index);
      this.#place(index, first);
      this.shards.items[index] = n;
      let last = -Infinity;
      for (const { attempt, node_id: node, state: outcome, reason, ...times } of attempts) {
        const row = this.#attempt(index, attempt, node, Date.parse(times.offered_at));
        const ended = times.ended_at === null ? Infinity : Date.parse(times.ended_at);
        const hasFailed = outcome === "finished" && reason !== null;
        const became = hasFailed ? FAILED : OUTCOMES[outcome] ?? CANCELLED;
        const counts = became === DONE && result?.node_id === node;
        this.#end(row, became, ended, reason, counts ? result.wall_s : null);
        if (ended !== Infinity) last = Math.max(last, ended);
      }
      this.#settle(index, SHARD_STATES[state] ?? POOL, last);
      if (state === "split") this.#isInOrder = false;
    }
    this.version += 1;
  }

  /** Takes a durable event; returns whether it changed anything. One that is known does not. */
  apply({ event_type: type, time_fired: fired, data }) {
    const changed = this.#applied(type, data, Date.parse(fired));
    if (changed) this.version += 1;
    return changed;
  }

  /** How a shard was at a time. */
  shardStateAt(shard, time) {
    const { state, settled, newest } = this.shards;
    if (state[shard] !== POOL && settled[shard] <= time) return state[shard];
    const { offered, ended, before } = this.columns;
    for (let row = newest[shard]; row >= 0; row = before[row]) {
      if (offered[row] <= time && ended[row] > time) return RUNNING;
    }
    return POOL;
  }

  /** What there was at a time, in shards and items. */
  countsAt(time) {
    const shards = new Array(RUNNING + 1).fill(0);
    const items = [...shards];
    for (let shard = 0; shard < this.nShards; shard += 1) {
      const state = this.shardStateAt(shard, time);
      shards[state] += 1;
      items[state] += this.shards.items[shard];
    }
    return { done: shards[DONE], live: shards[RUNNING], failed: shards[FAILED],
      itemsDone: items[DONE], itemsFailed: items[FAILED] };
  }

  /** How many of its items each of `nCells` equal parts of a job had done, running and failed. */
  cellsAt(time, nItems, nCells) {
    const [done, live, failed] = Array.from({ length: 3 }, () => new Float32Array(nCells));
    const cells = { [DONE]: done, [RUNNING]: live, [FAILED]: failed };
    const { first, items } = this.shards;
    const perCell = nItems / nCells;
    for (let shard = 0; shard < this.nShards; shard += 1) {
      const into = cells[this.shardStateAt(shard, time)];
      if (into === undefined || Number.isNaN(first[shard])) continue;
      const from = first[shard] / perCell;
      const to = Math.min((first[shard] + items[shard]) / perCell, nCells);
      for (let cell = Math.floor(from); cell < to; cell += 1) {
        into[cell] += Math.min(to, cell + 1) - Math.max(from, cell);
      }
    }
    return { done, live, failed };
  }

  /**
   * Rows: each node has as many lanes as it must have had slots. What is known of an attempt is when
   * it was given out, when its end was heard of and how long it ran: it may have waited before that
   * for a slot, and after that for others to be sent with. So it is drawn as soon as its lane was
   * free. `order` are the attempts by their end, `offsets` the first lane of each node.
   */
  lanes() {
    if (this.#packed !== this.version) this.#pack();
    return this.#lanes;
  }

  /** What each node did: attempts, those that counted, and how long it ran. */
  shares() {
    const found = this.nodes.map((id) => ({ id, attempts: 0, done: 0, failed: 0, live: 0, ms: 0 }));
    const { node, state, offered, ended, ran } = this.columns;
    for (let row = 0; row < this.nAttempts; row += 1) {
      const share = found[node[row]];
      share.attempts += 1;
      if (state[row] === DONE) share.done += 1;
      if (state[row] === FAILED) share.failed += 1;
      if (state[row] === LIVE) share.live += 1;
      else share.ms += Number.isNaN(ran[row]) ? ended[row] - offered[row] : ran[row];
    }
    return found;
  }

  #applied(type, { index, node_id: nodeId, ...data }, time) {
    const { state, node, offered } = this.columns;
    if (type === "shard_assigned") {
      const known = this.nAttempts;
      this.#reach(index);
      const { first, items } = this.shards;
      items[index] ||= data.n_items;
      if (this.#isInOrder) this.#place(index, index && first[index - 1] + items[index - 1]);
      this.#attempt(index, data.attempt, nodeId, time);
      return this.nAttempts > known;
    }
    if (type === "shard_done") {
      this.#reach(index);
      if (this.shards.state[index] === DONE) return false;
      // It may have been taken for lost, and come all the same.
      const row = this.#rows(index).find((each) => node[each] === this.#nodeAt.get(nodeId) &&
        [LIVE, RETURNED, DONE].includes(state[each]));
      if (row !== undefined) this.#end(row, DONE, time, null, data.wall_s);
      this.#endLive(index, SUPERSEDED, time);
      this.#settle(index, DONE, time);
      return true;
    }
    if (type === "shard_failed") {
      this.#isInOrder = false;
      return this.#endLive(index, FAILED, time, data.message,
        (row) => node[row] === this.#nodeAt.get(nodeId));
    }
    // What was given out in the same commit as this is the next attempt.
    if (type === "shard_returned") {
      return this.#endLive(index, RETURNED, time, data.reason, (row) => offered[row] < time);
    }
    if (!/^job_(completed|failed|cancelled)$/.test(type)) return false;
    let changed = false;
    for (let shard = 0; shard < this.nShards; shard += 1) {
      changed = this.#endLive(shard, CANCELLED, time) || changed;
    }
    return changed;
  }

  /** The attempts at a shard, the newest first. */
  #rows(shard) {
    const rows = [];
    let row = this.shards.newest[shard] ?? -1;
    for (; row >= 0; row = this.columns.before[row]) rows.push(row);
    return rows;
  }

  #endLive(shard, state, time, reason = null, fits = () => true) {
    const rows = this.#rows(shard)
      .filter((row) => this.columns.state[row] === LIVE && fits(row));
    for (const row of rows) this.#end(row, state, time, reason, null);
    return rows.length > 0;
  }

  // Shards are numbered from 0; those between known ones come with a page.
  #reach(index) {
    const n = Math.max(this.nShards, index + 1);
    grow(this.shards, SHARD, n);
    this.#nUnplaced += n - this.nShards;
    this.nShards = n;
  }

  #place(shard, first) {
    if (Number.isNaN(first) || !Number.isNaN(this.shards.first[shard])) return;
    this.shards.first[shard] = first;
    this.#nUnplaced -= 1;
  }

  #node(id) {
    if (!this.#nodeAt.has(id)) this.#nodeAt.set(id, this.nodes.push(id) - 1);
    return this.#nodeAt.get(id);
  }

  #attempt(shard, attempt, nodeId, offered) {
    const others = this.#rows(shard);
    const known = others.find((row) => this.columns.attempt[row] === attempt);
    if (known !== undefined) return known;
    const row = this.nAttempts;
    this.nAttempts += 1;
    grow(this.columns, ATTEMPT, this.nAttempts);
    const c = this.columns;
    c.shard[row] = shard;
    c.attempt[row] = attempt;
    c.node[row] = this.#node(nodeId);
    c.offered[row] = offered;
    c.before[row] = this.shards.newest[shard];
    if (others.some((other) => c.ended[other] > offered + SAME_MS)) c.kind[row] = COPY;
    else if (others.length) c.kind[row] = RETRY;
    this.nRetries += c.kind[row] === RETRY;
    this.nCopies += c.kind[row] === COPY;
    this.shards.newest[shard] = row;
    this.start = Math.min(this.start, offered);
    this.newest = Math.max(this.newest, offered);
    return row;
  }

  #end(row, state, ended, reason, wallS) {
    const c = this.columns;
    c.state[row] = state;
    c.ended[row] = ended;
    c.ran[row] = Math.min((wallS ?? NaN) * 1000, ended - c.offered[row]);
    if (reason) this.reasons.set(row, reason.slice(0, REASON_MAX));
    if (ended !== Infinity) this.newest = Math.max(this.newest, ended);
  }

  #settle(shard, state, time) {
    this.nDone += state === DONE && this.shards.state[shard] !== DONE;
    this.shards.state[shard] = state;
    this.shards.settled[shard] = state === POOL ? Infinity : time;
  }

  #pack() {
    const { offered, ended, ran, from, to, node, lane } = this.columns;
    const old = this.#lanes.order;
    const order = Int32Array.from({ length: this.nAttempts }, (_, row) => old[row] ?? row);
    sortNearly(order, ended);
    const free = this.nodes.map(() => []);
    for (const row of order) {
      const ends = free[node[row]];
      const isKnown = !Number.isNaN(ran[row]);
      const latest = SAME_MS + (isKnown ? ended[row] - ran[row]
        : offered[row] + WAITED_MAX * (ended[row] - offered[row]));
      let best = -1;
      for (let at = 0; at < ends.length; at += 1) {
        if (ends[at] > latest || ends[at] === Infinity) continue;
        if (best < 0 || (isKnown ? ends[at] > ends[best] : ends[at] < ends[best])) best = at;
      }
      if (best < 0) best = ends.push(-Infinity) - 1;
      from[row] = Math.max(offered[row], ends[best]);
      to[row] = isKnown ? from[row] + ran[row] : ended[row];
      ends[best] = to[row];
      lane[row] = best;
    }
    let nLanes = 0;
    const offsets = free.map((ends) => (nLanes += ends.length) - ends.length);
    this.#lanes = { nLanes, offsets, order };
    this.#packed = this.version;
  }
}

function made(kinds) {
  const columns = {};
  for (const [name, [Column]] of Object.entries(kinds)) columns[name] = new Column(0);
  return columns;
}

/** Makes room for so many numbers in each column. */
function grow(columns, kinds, length) {
  for (const [name, [Column, empty]] of Object.entries(kinds)) {
    const column = columns[name];
    if (length <= column.length) return;
    columns[name] = new Column(Math.max(length, column.length * 2, 256)).fill(empty);
    columns[name].set(column);
  }
}

/** Sorts rows by a column; what is nearly in order, as after a few events, takes one walk. */
function sortNearly(order, by) {
  let moves = 8 * order.length;
  for (let at = 1; at < order.length; at += 1) {
    const row = order[at];
    let to = at;
    for (; to > 0 && by[order[to - 1]] > by[row]; to -= 1) order[to] = order[to - 1];
    order[to] = row;
    moves -= at - to;
    if (moves < 0) {
      order.sort((a, b) => by[a] - by[b] || a - b);
      return;
    }
  }
}
