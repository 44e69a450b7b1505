/**
 * What happened to a job's shards, as columns of numbers: every attempt, the rows to draw them in,
 * and how things were at any moment. Pure: it knows no page, no clock and no network.
 */
import { grown, made, sortNearly } from "./columns.js";

// How an attempt ended; LIVE has not. A RETURNED one was lost, refused or too late, a SUPERSEDED one
// was beaten by another attempt at the same shard.
export const LIVE = 0;
export const DONE = 1;
export const FAILED = 2;
export const RETURNED = 3;
export const SUPERSEDED = 4;
export const CANCELLED = 5;
export const STATE_WORDS = ["running", "done", "failed", "returned", "superseded", "cancelled"];
// Why it was made: the first one, again after an end without a result, or beside another.
export const FIRST = 0;
export const RETRY = 1;
export const COPY = 2;
export const KIND_WORDS = ["first attempt", "retry", "copy"];
// Shards.
export const POOL = 0;
export const SPLIT = 6;
export const RUNNING = 7;

const OUTCOMES = {
  offered: LIVE,
  accepted: LIVE,
  finished: DONE,
  rejected: RETURNED,
  expired: RETURNED,
  superseded: SUPERSEDED,
  cancelled: CANCELLED,
};
const SHARD_STATES = {
  done: DONE,
  dead: FAILED,
  skipped: FAILED,
  split: SPLIT,
  cancelled: CANCELLED,
};
// Times are told in milliseconds: what ends when the next begins may seem to overlap it.
const SAME_MS = 1;
// Of an attempt whose running time is unknown as much may have been waiting.
const WAITED_MAX = 0.5;
const REASON_MAX = 500;

export class JobModel {
  constructor() {
    this.nAttempts = 0;
    this.nShards = 0;
    this.nodes = [];
    // Grows with each change, so that who draws knows whether there is something to draw.
    this.version = 0;
    this.nDone = 0;
    this.nRetries = 0;
    this.nCopies = 0;
    this.start = Infinity;
    this.newest = -Infinity;
    // Of attempts: `before` is the one before at the same shard, -1 for none; `ran` how long it
    // ran, NaN if that is unknown; it is drawn from `from` to `to`.
    this.columns = {
      ...made(Int32Array, ["shard", "attempt", "node", "lane", "before"]),
      ...made(Uint8Array, ["state", "kind"]),
      ...made(Float64Array, ["offered", "ended", "ran", "from", "to"]),
    };
    // `settled` is when a shard was done or failed, `newest` its newest attempt.
    this.shards = {
      ...made(Float64Array, ["first", "items", "settled"]),
      ...made(Uint8Array, ["state"]),
      ...made(Int32Array, ["newest"]),
    };
    this.reasons = new Map();
    this._nodeAt = new Map();
    this._unplaced = 0;
    // Shards are cut one after the other, until one that failed is split.
    this._isInOrder = true;
    this._packed = -1;
    this._lanes = { nLanes: 0, offsets: [], order: new Int32Array(0) };
  }

  // Whether events have not told all that a page tells: which attempts were lost beside others.
  get isGuessed() {
    return this.hasUnplaced || !this._isInOrder || this.nRetries + this.nCopies > 0;
  }

  // Whether it is unknown where the items of some shard begin: that of a part is told by a page.
  get hasUnplaced() {
    return this._unplaced > 0;
  }

  // The first shard of which that is unknown, the number of shards if there is none.
  firstUnplaced() {
    const at = this.shards.first.subarray(0, this.nShards).findIndex(Number.isNaN);
    return at < 0 ? this.nShards : at;
  }

  // Takes shards as `GET /jobs/{id}/shards` lists them; what it says replaces what was known.
  addPage(shards) {
    for (const shard of shards) {
      const at = this._shard(shard.index);
      if (Number.isNaN(this.shards.first[at])) this._unplaced -= 1;
      this.shards.first[at] = shard.first_item;
      this.shards.items[at] = shard.n_items;
      let last = -Infinity;
      for (const attempt of shard.attempts) {
        const row = this._attempt(
          at,
          attempt.attempt,
          attempt.node_id,
          Date.parse(attempt.offered_at),
        );
        const failed = attempt.state === "finished" && attempt.reason !== null;
        const state = failed ? FAILED : (OUTCOMES[attempt.state] ?? CANCELLED);
        const ended = attempt.ended_at === null ? Infinity : Date.parse(attempt.ended_at);
        const counts =
          state === DONE && shard.result !== null && shard.result.node_id === attempt.node_id;
        this._end(row, state, ended, attempt.reason, counts ? shard.result.wall_s : null);
        if (ended !== Infinity) last = Math.max(last, ended);
      }
      this._settle(at, SHARD_STATES[shard.state] ?? POOL, last);
      if (shard.state === "split") this._isInOrder = false;
    }
    this.version += 1;
  }

  // Takes a durable event; returns whether it changed anything. One that is known changes nothing.
  apply(event) {
    const { event_type: type, data } = event;
    const time = Date.parse(event.time_fired);
    const changed = this._applied(type, data, time);
    if (changed) this.version += 1;
    return changed;
  }

  // How a shard was at a time.
  shardStateAt(shard, time) {
    const { state, settled, newest } = this.shards;
    if (state[shard] !== POOL && settled[shard] <= time) return state[shard];
    const { offered, ended, before } = this.columns;
    for (let row = newest[shard]; row >= 0; row = before[row]) {
      if (offered[row] <= time && ended[row] > time) return RUNNING;
    }
    return POOL;
  }

  // What there was at a time, in shards and items.
  countsAt(time) {
    const counts = { done: 0, live: 0, failed: 0, itemsDone: 0, itemsFailed: 0 };
    for (let shard = 0; shard < this.nShards; shard += 1) {
      const state = this.shardStateAt(shard, time);
      if (state === DONE) {
        counts.done += 1;
        counts.itemsDone += this.shards.items[shard];
      } else if (state === FAILED) {
        counts.failed += 1;
        counts.itemsFailed += this.shards.items[shard];
      } else if (state === RUNNING) counts.live += 1;
    }
    return counts;
  }

  // How many of its items each of `nCells` equal parts of a job had done, running and failed.
  cellsAt(time, nItems, nCells) {
    const done = new Float32Array(nCells);
    const live = new Float32Array(nCells);
    const failed = new Float32Array(nCells);
    const perCell = nItems / nCells;
    if (!(perCell > 0)) return { done, live, failed };
    const { first, items } = this.shards;
    for (let shard = 0; shard < this.nShards; shard += 1) {
      const state = this.shardStateAt(shard, time);
      const into =
        state === DONE ? done : state === FAILED ? failed : state === RUNNING ? live : null;
      if (into === null || Number.isNaN(first[shard])) continue;
      const from = first[shard] / perCell;
      const to = Math.min((first[shard] + items[shard]) / perCell, nCells);
      for (let cell = Math.floor(from); cell < to; cell += 1) {
        into[cell] += Math.min(to, cell + 1) - Math.max(from, cell);
      }
    }
    return { done, live, failed };
  }

  // Rows: each node has as many lanes as it must have had slots. What is known of an attempt is when
  // it was given out, when its end was heard of and how long it ran: it may have waited before that
  // for a slot, and after that for others to be sent with. So it is drawn as soon as its lane was
  // free. `order` are the attempts by their end, `offsets` the first lane of each node.
  lanes() {
    if (this._packed !== this.version) this._pack();
    return this._lanes;
  }

  // What each node did: attempts, those that counted, and how long it ran.
  shares() {
    const found = this.nodes.map((id) => ({ id, attempts: 0, done: 0, failed: 0, live: 0, ms: 0 }));
    const { node, state, offered, ended, ran } = this.columns;
    for (let row = 0; row < this.nAttempts; row += 1) {
      const share = found[node[row]];
      share.attempts += 1;
      if (state[row] === DONE) share.done += 1;
      else if (state[row] === FAILED) share.failed += 1;
      else if (state[row] === LIVE) share.live += 1;
      if (state[row] !== LIVE)
        share.ms += Number.isNaN(ran[row]) ? ended[row] - offered[row] : ran[row];
    }
    return found;
  }

  _applied(type, data, time) {
    if (type === "shard_assigned") {
      const at = this._shard(data.index);
      const known = this.nAttempts;
      if (this.shards.items[at] === 0) this.shards.items[at] = data.n_items;
      this._place(at);
      this._attempt(at, data.attempt, data.node_id, time);
      return this.nAttempts > known;
    }
    if (type === "shard_done") return this._done(data, time);
    if (type === "shard_failed") {
      this._isInOrder = false;
      const row = this._of(data.index, data.node_id, (state) => state === LIVE);
      if (row >= 0) this._end(row, FAILED, time, data.message, null);
      return row >= 0;
    }
    // What was given out in the same commit as this is the next attempt.
    if (type === "shard_returned") {
      return this._endLive(
        data.index,
        RETURNED,
        time,
        data.reason,
        (row) => this.columns.offered[row] < time,
      );
    }
    if (type === "job_completed" || type === "job_failed" || type === "job_cancelled") {
      let changed = false;
      for (let shard = 0; shard < this.nShards; shard += 1) {
        changed = this._endLive(shard, CANCELLED, time, null, () => true) || changed;
      }
      return changed;
    }
    return false;
  }

  _place(shard) {
    const { first, items } = this.shards;
    if (!Number.isNaN(first[shard]) || !this._isInOrder) return;
    const begins = shard === 0 ? 0 : first[shard - 1] + items[shard - 1];
    if (Number.isNaN(begins)) return;
    first[shard] = begins;
    this._unplaced -= 1;
  }

  _done(data, time) {
    const at = this._shard(data.index);
    if (this.shards.state[at] === DONE) return false;
    // It may have been taken for lost, and come all the same.
    const row = this._of(at, data.node_id, (state) => [LIVE, RETURNED, DONE].includes(state));
    if (row >= 0) this._end(row, DONE, time, null, data.wall_s);
    this._endLive(at, SUPERSEDED, time, null, () => true);
    this._settle(at, DONE, time);
    return true;
  }

  _of(shard, nodeId, fits) {
    const node = this._nodeAt.get(nodeId);
    if (shard >= this.nShards) return -1;
    for (let row = this.shards.newest[shard]; row >= 0; row = this.columns.before[row]) {
      if (this.columns.node[row] === node && fits(this.columns.state[row])) return row;
    }
    return -1;
  }

  _endLive(shard, state, time, reason, fits) {
    let changed = false;
    if (shard >= this.nShards) return changed;
    for (let row = this.shards.newest[shard]; row >= 0; row = this.columns.before[row]) {
      if (this.columns.state[row] !== LIVE || !fits(row)) continue;
      this._end(row, state, time, reason, null);
      changed = true;
    }
    return changed;
  }

  // Shards are numbered from 0; those between known ones come with a page.
  _shard(index) {
    if (index < this.nShards) return index;
    for (const [name, column] of Object.entries(this.shards))
      this.shards[name] = grown(column, index + 1);
    this.shards.first.fill(NaN, this.nShards, index + 1);
    this.shards.settled.fill(Infinity, this.nShards, index + 1);
    this.shards.newest.fill(-1, this.nShards, index + 1);
    this._unplaced += index + 1 - this.nShards;
    this.nShards = index + 1;
    return index;
  }

  _node(id) {
    let at = this._nodeAt.get(id);
    if (at === undefined) {
      at = this.nodes.push(id) - 1;
      this._nodeAt.set(id, at);
    }
    return at;
  }

  _attempt(shard, attempt, nodeId, offered) {
    const { newest } = this.shards;
    for (let row = newest[shard]; row >= 0; row = this.columns.before[row]) {
      if (this.columns.attempt[row] === attempt) return row;
    }
    const row = this.nAttempts;
    for (const [name, column] of Object.entries(this.columns))
      this.columns[name] = grown(column, row + 1);
    const c = this.columns;
    c.shard[row] = shard;
    c.attempt[row] = attempt;
    c.node[row] = this._node(nodeId);
    c.state[row] = LIVE;
    c.kind[row] = FIRST;
    c.offered[row] = offered;
    c.ran[row] = NaN;
    c.ended[row] = Infinity;
    c.before[row] = newest[shard];
    for (let other = newest[shard]; other >= 0; other = c.before[other]) {
      if (c.kind[row] === FIRST) c.kind[row] = RETRY;
      if (c.ended[other] > offered + SAME_MS) c.kind[row] = COPY;
    }
    if (c.kind[row] === RETRY) this.nRetries += 1;
    if (c.kind[row] === COPY) this.nCopies += 1;
    newest[shard] = row;
    this.nAttempts += 1;
    this.start = Math.min(this.start, offered);
    this.newest = Math.max(this.newest, offered);
    return row;
  }

  _end(row, state, ended, reason, wallS) {
    const c = this.columns;
    c.state[row] = state;
    c.ended[row] = ended;
    c.ran[row] = wallS === null ? NaN : Math.min(wallS * 1000, ended - c.offered[row]);
    if (reason) this.reasons.set(row, reason.slice(0, REASON_MAX));
    if (ended !== Infinity) this.newest = Math.max(this.newest, ended);
  }

  _settle(shard, state, time) {
    if (state === DONE && this.shards.state[shard] !== DONE) this.nDone += 1;
    this.shards.state[shard] = state;
    this.shards.settled[shard] = state === POOL ? Infinity : time;
  }

  _pack() {
    const { offered, ended, ran, from, to, node, lane } = this.columns;
    const old = this._lanes.order;
    const order = new Int32Array(this.nAttempts);
    order.set(old);
    for (let row = old.length; row < this.nAttempts; row += 1) order[row] = row;
    sortNearly(order, ended);
    const free = this.nodes.map(() => []);
    for (const row of order) {
      const ends = free[node[row]];
      const isKnown = !Number.isNaN(ran[row]);
      const latest = isKnown
        ? ended[row] - ran[row]
        : offered[row] + WAITED_MAX * (ended[row] - offered[row]);
      let best = -1;
      for (let at = 0; at < ends.length; at += 1) {
        if (ends[at] > latest + SAME_MS || ends[at] === Infinity) continue;
        if (best < 0 || (isKnown ? ends[at] > ends[best] : ends[at] < ends[best])) best = at;
      }
      if (best < 0) best = ends.push(-Infinity) - 1;
      from[row] = Math.max(offered[row], ends[best]);
      to[row] = isKnown ? from[row] + ran[row] : ended[row];
      ends[best] = to[row];
      lane[row] = best;
    }
    const offsets = [];
    let nLanes = 0;
    for (const ends of free) {
      offsets.push(nLanes);
      nLanes += ends.length;
    }
    this._lanes = { nLanes, offsets, order };
    this._packed = this.version;
  }
}
