// Calls a module by its abi: the shard's bytes in, the result's bytes out.

const ABIS = {
  // Decimal text, for instance "0 1000".
  range (exports, entry, input) {
    const [low, high] = Buffer.from(input).toString().trim().split(/\s+/).map(BigInt)
    return Buffer.from(String(exports[entry](low, high)))
  },

  // Packed little-endian at address 0; the second argument counts elements.
  'i32-array' (exports, entry, input) {
    makeRoom(exports.memory, input.length)
    new Uint8Array(exports.memory.buffer).set(input, 0)
    return Buffer.from(String(exports[entry](0, input.length / 4)))
  },

  bytes (exports, entry, input) {
    const at = exports.alloc(input.length) >>> 0
    new Uint8Array(exports.memory.buffer).set(input, at)
    const packed = BigInt.asUintN(64, exports[entry](at, input.length))
    return Buffer.from(new Uint8Array(exports.memory.buffer, Number(packed >> 32n), Number(packed & 0xffffffffn)))
  }
}

export function run (wasm, call, input) {
  if (!(call.abi in ABIS)) throw new Error(`abi ${call.abi} is not known here`)
  // A fresh instance a shard: nothing of one leaks into the next.
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm))
  return ABIS[call.abi](exports, call.entry, input)
}

function makeRoom (memory, size) {
  const missing = Math.ceil(size / 65536) - memory.buffer.byteLength / 65536
  if (missing > 0) memory.grow(missing)
}
