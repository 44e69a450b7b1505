// The bulk plane: large blobs over plain TCP, each chunk sealed with the key of a signed ticket.

import { createCipheriv, createDecipheriv } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'

const CHUNK = 256 * 1024
const TAG = 16

// Receives the whole blob of `size` bytes.
export async function download (host, ticket, size) {
  const connection = await opened(host, ticket)
  const read = reader(connection)
  const parts = []
  for (let at = 0; at < size; at += CHUNK) {
    parts.push(unseal(ticket, at, await read(Math.min(CHUNK, size - at) + TAG)))
  }
  connection.destroy()
  return Buffer.concat(parts)
}

// Sends what the server still lacks of a blob.
export async function upload (host, ticket, blob) {
  const connection = await opened(host, ticket)
  const offset = Number((await reader(connection)(8)).readBigUInt64BE())
  for (let at = offset; at < blob.length; at += CHUNK) {
    const sealed = seal(ticket, at, blob.subarray(at, at + CHUNK))
    if (!connection.write(sealed)) await once(connection, 'drain')
  }
  // The server closes when it has everything; closing first could discard the end.
  await once(connection, 'close')
}

async function opened (host, ticket) {
  const connection = connect({ host, port: ticket.port, timeout: 30000 })
  connection.on('timeout', () => connection.destroy(new Error('timed out')))
  await once(connection, 'connect')
  // The offset at which to begin is 0 here: this peer keeps no part of a broken transfer.
  connection.write(opening(ticket))
  return connection
}

// Only who has the ticket's key can make the tag at the end; no chunk has its nonce.
export function opening (ticket) {
  const head = Buffer.concat([Buffer.from('SHB3'), ticket.id, Buffer.alloc(8)])
  const cipher = createCipheriv('aes-256-gcm', ticket.key, Buffer.alloc(12, 0xff)).setAAD(head)
  cipher.final()
  return Buffer.concat([head, cipher.getAuthTag()])
}

// Reads as many bytes as one asks for.
export function reader (connection) {
  const chunks = connection[Symbol.asyncIterator]()
  let waiting = Buffer.alloc(0)
  return async (size) => {
    const parts = [waiting]
    for (let have = waiting.length; have < size;) {
      const { value, done } = await chunks.next()
      if (done) throw new Error('the server closed the connection')
      parts.push(value)
      have += value.length
    }
    const all = Buffer.concat(parts)
    waiting = all.subarray(size)
    return all.subarray(0, size)
  }
}

// The nonce is the number of the chunk in the blob, 12 bytes big-endian.
function nonce (at) {
  const bytes = Buffer.alloc(12)
  bytes.writeUInt32BE(at / CHUNK, 8)
  return bytes
}

export function seal (ticket, at, plain) {
  const cipher = createCipheriv('aes-256-gcm', ticket.key, nonce(at)).setAAD(ticket.id)
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}

function unseal (ticket, at, sealed) {
  const decipher = createDecipheriv('aes-256-gcm', ticket.key, nonce(at)).setAAD(ticket.id)
  decipher.setAuthTag(sealed.subarray(-TAG))
  return Buffer.concat([decipher.update(sealed.subarray(0, -TAG)), decipher.final()])
}
