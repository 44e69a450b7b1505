/**
 * Uploads of large files before the job that names them: in pieces, resumed where they broke off.
 * The hash is computed here, since browsers hash nothing on a page without TLS.
 */
import { api, ApiError, errorOf } from "./connection.js";

const PIECE_BYTES = 8 * 1024 * 1024;
const READ_BYTES = 1024 * 1024;
const RETRIES = 6;
const WAIT_MS = 1000;
const BLOCK = 64;

const fraction = (value) => ((value - Math.floor(value)) * 2 ** 32) | 0;

// The first 64 primes; SHA-256 takes its constants from their roots.
const PRIMES = [];
for (let each = 2; PRIMES.length < 64; each += 1) {
  if (PRIMES.every((prime) => each % prime)) PRIMES.push(each);
}
const ROUNDS = Int32Array.from(PRIMES, (prime) => fraction(Math.cbrt(prime)));
const START = Int32Array.from(PRIMES.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));

/** SHA-256 of bytes that come piece by piece. */
export class Sha256 {
  #state = START.slice();
  #words = new Int32Array(64);
  #rest = new Uint8Array(BLOCK);
  #nRest = 0;
  #nBytes = 0;

  add(bytes) {
    let at = 0;
    this.#nBytes += bytes.length;
    if (this.#nRest > 0) {
      at = Math.min(BLOCK - this.#nRest, bytes.length);
      this.#rest.set(bytes.subarray(0, at), this.#nRest);
      this.#nRest += at;
      if (this.#nRest < BLOCK) return this;
      this.#block(this.#rest, 0);
    }
    for (; at + BLOCK <= bytes.length; at += BLOCK) this.#block(bytes, at);
    this.#rest.set(bytes.subarray(at));
    this.#nRest = bytes.length - at;
    return this;
  }

  hex() {
    const nBits = 8 * this.#nBytes;
    const end = new Uint8Array((this.#nRest < 56 ? BLOCK : 2 * BLOCK) - this.#nRest);
    end[0] = 0x80;
    const view = new DataView(end.buffer);
    view.setUint32(end.length - 8, Math.floor(nBits / 2 ** 32));
    view.setUint32(end.length - 4, nBits >>> 0);
    this.add(end);
    return Array.from(this.#state, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  }

  #block(bytes, from) {
    const w = this.#words;
    for (let i = 0, at = from; i < 16; i += 1, at += 4) {
      w[i] = (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
    }
    for (let i = 16; i < 64; i += 1) {
      const p = w[i - 15];
      const q = w[i - 2];
      const s0 = ((p >>> 7) | (p << 25)) ^ ((p >>> 18) | (p << 14)) ^ (p >>> 3);
      const s1 = ((q >>> 17) | (q << 15)) ^ ((q >>> 19) | (q << 13)) ^ (q >>> 10);
      w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
    }
    const state = this.#state;
    // Taken one by one: an iterator of each block would cost more than the block.
    let a = state[0], b = state[1], c = state[2], d = state[3];
    let e = state[4], f = state[5], g = state[6], h = state[7];
    for (let i = 0; i < 64; i += 1) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const one = (h + s1 + ((e & f) ^ (~e & g)) + ROUNDS[i] + w[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const two = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + one) | 0;
      d = c;
      c = b;
      b = a;
      a = (one + two) | 0;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
  }
}

/** Returns a file's hash; `told(share)` hears how far it is. */
async function hashOf(file, signal, told) {
  const sum = new Sha256();
  for (let at = 0; at < file.size; at += READ_BYTES) {
    signal.throwIfAborted();
    sum.add(new Uint8Array(await file.slice(at, at + READ_BYTES).arrayBuffer()));
    told(Math.min(1, (at + READ_BYTES) / file.size));
  }
  return sum.hex();
}

/** Uploads a file, or what of it is not there yet; `told(stage, share)` hears how far it is. */
export async function upload(file, signal, told) {
  const sha = await hashOf(file, signal, (share) => told("reading", share));
  const path = `/blobs/${sha}`;
  for (let failed = 0; ;) {
    try {
      let at = await arrived(path, signal);
      while (at < file.size) {
        told("sending", at / file.size);
        const end = Math.min(file.size, at + PIECE_BYTES);
        const response = await api.raw("PUT", path, {
          body: file.slice(at, end),
          signal,
          headers: { "Content-Range": `bytes ${at}-${end - 1}/${file.size}` },
        });
        if (!response.ok) throw await errorOf(response);
        at = (await response.json()).offset;
        failed = 0;
      }
      return sha;
    } catch (error) {
      // What may pass: nobody answers, too much at once, or another request brings this very blob.
      const mayPass = error instanceof ApiError && [0, 429, 502, 503, 504].includes(error.status);
      failed += 1;
      if (!mayPass || failed > RETRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, WAIT_MS * failed));
    }
  }
}

async function arrived(path, signal) {
  try {
    return (await api.get(path, { signal })).offset;
  } catch (error) {
    if (error.status === 404) return 0;
    throw error;
  }
}
