// Looks for the number that, put behind a text, gives the SHA-256 with most leading zero bits
// (abi range, reduce max). The text is the first argument.
//
// Returns the best as bits * 10^12 + number, so that the larger is the better: 23000001234567 are
// 23 bits with the number 1234567. Of equally good ones the highest number wins.

// @ts-ignore: decorators on functions are AssemblyScript's
@external("wasi_snapshot_preview1", "args_sizes_get")
declare function args_sizes_get(count: usize, size: usize): i32;
// @ts-ignore: as above
@external("wasi_snapshot_preview1", "args_get")
declare function args_get(pointers: usize, text: usize): i32;

const SCALE: i64 = 1_000_000_000_000;
const ARGUMENTS_MAX: u32 = 4;
const TEXT_MAX: u32 = 1024;
const DIGITS_MAX: u32 = 12;

const K = memory.data<u32>([
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
]);
const START = memory.data<u32>([
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
]);
const STATE = memory.data(32);
const SCHEDULE = memory.data(256);
// The arguments' addresses, and two numbers while their sizes are asked for.
const POINTERS = memory.data(4 * <i32>ARGUMENTS_MAX);
const ARGUMENTS = memory.data(2 * <i32>TEXT_MAX);
// The text, the digits, and at most 72 bytes of padding.
const MESSAGE = memory.data(<i32>TEXT_MAX + 128);

export function map(lo: i64, hi: i64): i64 {
  if (lo < 0 || hi > SCALE) unreachable();
  const length = readText();
  let best: i64 = -1;
  for (let number = lo; number < hi; number++) {
    hash(MESSAGE, length + writeDigits(MESSAGE + length, number));
    const found = leadingZeros() * SCALE + number;
    if (found > best) best = found;
  }
  return best;
}

// Copies the first argument to MESSAGE and returns its length; the module's own name is no. 0.
function readText(): u32 {
  if (args_sizes_get(POINTERS, POINTERS + 4)) unreachable();
  const count = load<u32>(POINTERS);
  if (count < 2) return 0;
  if (count > ARGUMENTS_MAX || load<u32>(POINTERS + 4) > 2 * TEXT_MAX) unreachable();
  if (args_get(POINTERS, ARGUMENTS)) unreachable();
  const text = <usize>load<u32>(POINTERS + 4);
  let length: u32 = 0;
  while (load<u8>(text + length)) length++;
  if (length > TEXT_MAX) unreachable();
  memory.copy(MESSAGE, text, length);
  return length;
}

function writeDigits(at: usize, number: i64): u32 {
  let count: u32 = 1;
  for (let rest = number / 10; rest; rest /= 10) count++;
  for (let i = count; i; i--) {
    store<u8>(at + i - 1, <u8>(48 + number % 10));
    number /= 10;
  }
  return count;
}

// Leaves the hash of a message in STATE. The padding is written behind the message.
function hash(at: usize, length: u32): void {
  memory.copy(STATE, START, 32);
  const total = (length + 9 + 63) & ~63;
  memory.fill(at + length, 0, total - length);
  store<u8>(at + length, 0x80);
  store<u64>(at + total - 8, bswap<u64>(<u64>length * 8));
  for (let block: u32 = 0; block < total; block += 64) compress(at + block);
}

function compress(block: usize): void {
  for (let i: usize = 0; i < 64; i += 4) store<u32>(SCHEDULE + i, bswap(load<u32>(block + i)));
  for (let i: usize = 64; i < 256; i += 4) {
    const w2 = load<u32>(SCHEDULE + i - 8);
    const w15 = load<u32>(SCHEDULE + i - 60);
    const s0 = rotr(w15, 7) ^ rotr(w15, 18) ^ (w15 >>> 3);
    const s1 = rotr(w2, 17) ^ rotr(w2, 19) ^ (w2 >>> 10);
    store<u32>(SCHEDULE + i, load<u32>(SCHEDULE + i - 64) + s0 + load<u32>(SCHEDULE + i - 28) + s1);
  }
  let a = load<u32>(STATE);
  let b = load<u32>(STATE, 4);
  let c = load<u32>(STATE, 8);
  let d = load<u32>(STATE, 12);
  let e = load<u32>(STATE, 16);
  let f = load<u32>(STATE, 20);
  let g = load<u32>(STATE, 24);
  let h = load<u32>(STATE, 28);
  for (let i: usize = 0; i < 256; i += 4) {
    const s1 = rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25);
    const t1 = h + s1 + ((e & f) ^ (~e & g)) + load<u32>(K + i) + load<u32>(SCHEDULE + i);
    const s0 = rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22);
    const t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g;
    g = f;
    f = e;
    e = d + t1;
    d = c;
    c = b;
    b = a;
    a = t1 + t2;
  }
  add(0, a);
  add(4, b);
  add(8, c);
  add(12, d);
  add(16, e);
  add(20, f);
  add(24, g);
  add(28, h);
}

function add(offset: usize, value: u32): void {
  store<u32>(STATE + offset, load<u32>(STATE + offset) + value);
}

function leadingZeros(): i64 {
  let zeros: i64 = 0;
  for (let i: usize = 0; i < 32; i += 4) {
    const word = load<u32>(STATE + i);
    if (word) return zeros + <i64>clz(word);
    zeros += 32;
  }
  return zeros;
}
