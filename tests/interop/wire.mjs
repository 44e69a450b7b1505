// How a message becomes bytes: deterministic CBOR, frames, signatures.

import { createHash, createPrivateKey, createPublicKey, verify } from 'node:crypto'
import { decode, encode, Token, Type } from 'cborg'

export const FRAME_MAX = 1024 * 1024

// CBOR. JavaScript has one kind of number, CBOR two: what the protocol calls a float must be
// written as one, also when it is whole. cborg sorts the keys and takes the shortest forms, so
// whatever it writes is deterministic.

export class Float {
  constructor (value) { this.value = value }
}

const FLOATS = {
  Object: (value) => value instanceof Float ? [new Token(Type.float, value.value)] : null
}
export const toCbor = (value) => encode(value, { typeEncoders: FLOATS })
export const fromCbor = (bytes) => decode(bytes, { allowIndefinite: false, rejectDuplicateMapKeys: true })

// Frames: a length and an array of messages.

export function toFrame (...messages) {
  const body = toCbor(messages)
  const frame = Buffer.allocUnsafe(4 + body.length)
  frame.writeUInt32BE(body.length)
  frame.set(body, 4)
  return frame
}

export async function * readFrames (stream) {
  let waiting = []
  let size = 0
  for await (const chunk of stream) {
    waiting.push(Buffer.from(chunk.subarray()))
    size += waiting.at(-1).length
    while (size >= 4) {
      if (waiting[0].length < 4) waiting = [Buffer.concat(waiting)]
      const end = 4 + waiting[0].readUInt32BE()
      if (end > 4 + FRAME_MAX) throw new Error(`a frame of ${end - 4} bytes`)
      if (size < end) break
      const [bytes] = waiting = [Buffer.concat(waiting)]
      yield { messages: fromCbor(bytes.subarray(4, end)), size: end }
      waiting = [bytes.subarray(end)]
      size -= end
    }
  }
}

// Signatures: Ed25519 over a domain, a NUL byte and the bytes.

export const sha256 = (bytes) => createHash('sha256').update(bytes).digest()
export const hex = (bytes) => Buffer.from(bytes).toString('hex')
export const keyId = (publicKey) => hex(sha256(publicKey)).slice(0, 32)
export const signedBytes = (type, bytes) => Buffer.concat([Buffer.from(`swarm-hub/v3/${type}\0`), bytes])

export function privateKey (seed) {
  const prefix = Buffer.from('302e020100300506032b657004220420', 'hex')
  return createPrivateKey({ key: Buffer.concat([prefix, seed]), format: 'der', type: 'pkcs8' })
}

export function isSignedBy (publicKey, type, bytes, signature) {
  const prefix = Buffer.from('302a300506032b6570032100', 'hex')
  const key = createPublicKey({ key: Buffer.concat([prefix, publicKey]), format: 'der', type: 'spki' })
  return verify(null, signedBytes(type, bytes), key, signature)
}

export function check (right, otherwise) {
  if (!right) throw new Error(otherwise)
}
