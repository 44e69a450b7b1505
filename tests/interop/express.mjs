// The express plane: a session's messages over TCP, in records that need no signatures.

import { createCipheriv, createDecipheriv, createHmac, createPrivateKey, createPublicKey, diffieHellman, hkdfSync, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { uptime } from 'node:os'
import { reader } from './bulk.mjs'
import { check, FRAME_MAX, fromCbor, sha256, toCbor } from './wire.mjs'

// What counts there without an envelope, as far as this peer knows it; all else stays in envelopes.
export const BARE = new Set(['assign', 'result_ack', 'cancel'])
const SUITE = 1
const LABEL = 'swarm-hub/v2/express/1'
const HEAD = 4
const TAG = 16
const EPOCH = 2 ** 20
const END = 2 ** 48
const OPENING_MS = 5000
const SLACK_S = 5
const AGAIN_MS = [2000, 600_000]
const RENEWED_MS = 1000
const LEAVE_MS = 500
const WITHOUT_MS = 60_000

// Keys

export function ephemeral (seed = randomBytes(32)) {
  const prefix = Buffer.from('302e020100300506032b656e04220420', 'hex')
  const key = createPrivateKey({ key: Buffer.concat([prefix, seed]), format: 'der', type: 'pkcs8' })
  return { key, eph: createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32) }
}

// What both sides have agreed on: the headers of both envelopes, and the keys that signed them.
export function transcript (ask, askerKey, offer, offererKey) {
  return sha256(Buffer.concat([Buffer.from(`${LABEL}\0`), toCbor([ask, askerKey, offer, offererKey])]))
}

// What both directions start from: that of the asker, that of the offerer. It throws where the secret
// would be zero.
export function secrets (key, theirs, t) {
  const prefix = Buffer.from('302a300506032b656e032100', 'hex')
  const publicKey = createPublicKey({ key: Buffer.concat([prefix, theirs]), format: 'der', type: 'spki' })
  const made = Buffer.from(hkdfSync('sha256', diffieHellman({ privateKey: key, publicKey }), t, `${LABEL} traffic`, 64))
  return [made.subarray(0, 32), made.subarray(32)]
}

// HKDF-Expand (RFC 5869) alone, which node has only behind an extract.
function expand (secret, info, size) {
  let [made, block] = [Buffer.alloc(0), Buffer.alloc(0)]
  for (let number = 1; made.length < size; number++) {
    block = createHmac('sha256', secret).update(block).update(info).update(Buffer.from([number])).digest()
    made = Buffer.concat([made, block])
  }
  return made.subarray(0, size)
}

// Seals or opens the records of one direction, each once and in order.
export class Direction {
  constructor (secret, count = 0) {
    Object.assign(this, { secret, count })
    this.step()
  }

  step () {
    const made = expand(this.secret, `${LABEL} epoch`, 76)
    Object.assign(this, { key: made.subarray(0, 32), iv: made.subarray(32, 44), secret: made.subarray(44) })
  }

  nonce () {
    check(this.count < END, 'more records than a connection may have')
    if (this.count > 0 && this.count % EPOCH === 0) this.step()
    const nonce = Buffer.from(this.iv)
    const number = Buffer.alloc(8)
    number.writeBigUInt64BE(BigInt(this.count++))
    for (let at = 0; at < 8; at++) nonce[4 + at] ^= number[at]
    return nonce
  }

  seal (body) {
    const head = Buffer.alloc(HEAD)
    head.writeUInt32BE(body.length + TAG)
    const cipher = createCipheriv('aes-256-gcm', this.key, this.nonce()).setAAD(head)
    return Buffer.concat([head, cipher.update(body), cipher.final(), cipher.getAuthTag()])
  }

  open (head, sealed) {
    const nonce = this.nonce()
    const decipher = createDecipheriv('aes-256-gcm', this.key, nonce).setAAD(head)
    decipher.setAuthTag(sealed.subarray(-TAG))
    return Buffer.concat([decipher.update(sealed.subarray(0, -TAG)), decipher.final()])
  }
}

// The connection: what opens it, and its records.

export const proof = (t) => toCbor([['express', { t }]])

export function opening (id, outgoing, t) {
  return Buffer.concat([Buffer.from('SHX1'), id, outgoing.seal(proof(t))])
}

class Link {
  static async open (host, { port, id }, t, [ours, theirs]) {
    const socket = connect({ host, port, noDelay: true, timeout: OPENING_MS })
    socket.on('timeout', () => socket.destroy(new Error('timed out')))
    // Whoever reads is told as well.
    socket.on('error', () => {})
    await once(socket, 'connect')
    const link = new this(socket, new Direction(ours), new Direction(theirs))
    socket.write(opening(id, link.outgoing, t))
    const answer = await link.record()
    check(Buffer.compare(answer, proof(t)) === 0, 'another first record than was agreed on')
    socket.setTimeout(0)
    return link
  }

  constructor (socket, outgoing, incoming) {
    Object.assign(this, { socket, outgoing, incoming, read: reader(socket) })
  }

  send (body) {
    this.socket.write(this.outgoing.seal(body))
  }

  async record () {
    const head = await this.read(HEAD)
    const length = head.readUInt32BE()
    check(length >= TAG && length <= TAG + FRAME_MAX, `a record of ${length} bytes`)
    return this.incoming.open(head, await this.read(length))
  }
}

// The ways of one session: its stream, and an express connection beside it. Each direction moves by
// itself, and what comes on the way it moves to waits for its marker on the other.

export class Express {
  constructor (session) {
    this.session = session
    this.asked = this.link = null
    this.sends = this.reads = this.wasRead = false
    this.held = [] // what came on the stream that the peer has left
    this.turned = () => {}
    this.pauseMs = AGAIN_MS[0]
  }

  // What both sides mean by this session.
  place () {
    const { peer, gateway, generation: { boot, seq } } = this.session
    return { boot: peer.bootId, peer_boot: gateway.boot_id, session: [boot, seq] }
  }

  // Asks for a connection; again, with growing pauses, until there is one.
  ask () {
    const { peer, peerId, ended } = this.session
    if (ended || peer.stopping || this.link !== null) return
    const [first, last] = peer.losses.get(peerId) ?? []
    if (last - first < WITHOUT_MS && Date.now() - last < WITHOUT_MS) return this.later(WITHOUT_MS)
    const made = ephemeral()
    const header = this.session.postSigned(['express_ask', { suites: [SUITE], eph: made.eph, ...this.place() }])
    this.asked = { key: made.key, header, own: peer.publicKey }
    this.later(this.pauseMs)
    this.pauseMs = Math.min(2 * this.pauseMs, AGAIN_MS[1])
  }

  later (waitMs) {
    clearTimeout(this.waiting)
    this.waiting = setTimeout(() => this.ask(), waitMs)
    this.waiting.unref()
  }

  async onOffer (offer, header, key) {
    const { asked, session } = this
    if (asked === null || offer.suite !== SUITE || Buffer.compare(offer.ask, sha256(asked.header)) !== 0) return
    this.asked = null
    const { boot, peer_boot: peerBoot, session: [run, seq] } = this.place()
    const isThis = offer.boot === peerBoot && offer.peer_boot === boot && Buffer.compare(offer.session[0], run) === 0 && offer.session[1] === seq
    if (!isThis) return
    const t = transcript(asked.header, asked.own, header, key)
    let link
    try {
      link = await Link.open(session.host, offer, t, secrets(asked.key, offer.eph, t))
    } catch (error) {
      session.peer.log.push(`no express connection: ${error.message}`)
      return
    }
    if (session.ended) return link.socket.destroy()
    Object.assign(link, { theirs: key, own: asked.own })
    Object.assign(this, { link, wasRead: false, pauseMs: AGAIN_MS[0] })
    session.send('plane', { to: 'express' })
    this.sends = true
    session.peer.byRecord.connections++
    // The peer waits for a record before it goes over too.
    session.beat()
    this.follow(link)
  }

  // Whether what goes by record is the word of that key.
  vouchesFor (key) {
    return this.sends && this.link?.own === key
  }

  async follow (link) {
    let heardAt = uptime()
    try {
      for (;;) {
        const body = await link.record()
        // The device has slept: the peer has given this session up meanwhile.
        check(uptime() - heardAt <= 3 * this.session.peer.heartbeatMs / 1000 + SLACK_S, 'silent')
        heardAt = uptime()
        while (!this.reads && this.link === link) await new Promise((resolve) => { this.turned = resolve })
        if (this.link !== link) return
        this.session.take(fromCbor(body), HEAD + body.length, link)
      }
    } catch (error) {
      if (this.link !== link) return
      this.link = null
      this.session.lost(error)
    }
  }

  onMarker (to) {
    if (to === 'express' && !this.reads) {
      this.reads = this.wasRead = true
      this.turned()
    } else if (to === 'stream' && this.reads) {
      this.reads = false
      if (this.sends) this.leave()
      else this.settle()
      for (const [messages, size] of this.held.splice(0)) this.session.take(messages, size, null)
    }
  }

  // Returns to the stream; the other side does the same.
  leave () {
    if (!this.sends) return
    this.session.send('plane', { to: 'stream' })
    this.sends = false
    this.settle()
  }

  async left () {
    this.leave()
    for (const end = Date.now() + LEAVE_MS; this.link !== null && Date.now() < end;) {
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }

  // A side that went over is followed, so the connection is of use until the other has come and gone.
  settle () {
    if (this.sends || this.reads || !this.wasRead) return
    this.link.socket.end()
    this.link = null
    this.turned()
    this.later(RENEWED_MS)
  }

  drop () {
    clearTimeout(this.waiting)
    this.link?.socket.destroy()
    this.asked = this.link = null
    this.sends = this.reads = false
    this.turned()
  }
}
