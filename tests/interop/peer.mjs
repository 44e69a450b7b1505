// A worker that is not ours: swarm_hub's native protocol in JavaScript, from docs/protocol.md alone.
//
//   const peer = await Peer.start({ trust: [gatewayKeyHex], name: 'visitor' })
//   await peer.dial('/ip4/192.168.1.20/tcp/4001/p2p/12D3KooW…')
//
// wire.mjs has the bytes below it, bulk.mjs the bulk plane, express.mjs the express plane, module.mjs
// the calling of modules.
// It joins a gateway, fetches modules and inputs, runs them with WebAssembly and delivers the
// results. It is an example for implementers and keeps nothing on disk, which a real worker must.
// What a module may do is not limited here either: obey only gateways that you trust.

import { createPublicKey, randomBytes, sign } from 'node:crypto'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { download, upload } from './bulk.mjs'
import { BARE, Express } from './express.mjs'
import { run } from './module.mjs'
import { check, Float, fromCbor, hex, isSignedBy, keyId, privateKey, readFrames, sha256, signedBytes, toCbor, toFrame } from './wire.mjs'

export const VERSION = 3
export const TELEMETRY = 'swarm-hub/telemetry'
const CHUNK = 63 * 1024
const CREDIT_STEP = 32 * 1024
const WINDOW = 256 * 1024 // what may be under way; fixed, where ours follows the delay
const RESEND_MS = 5000
const LAST_WORD_MS = 500
const INLINE_MAX = 64 * 1024
const BULK_MIN = 1024 * 1024
const SIGNED_IN_HELLO = ['iss', 'aud', 'key', 'time', 'name', 'capabilities', 'boot_id', 'db_id']
// Of what a call may need by name this peer knows nothing: it takes fuel, fixed clocks and scripts for
// what they are not, so it says that it lacks them.
const FEATURES = []
const CALL = ['abi', 'entry', 'fuel', 'memory_bytes', 'wall_time_s', 'output_bytes', 'args', 'env', 'deterministic', 'script', 'needs']
const HEADER = ['v', 'typ', 'kid', 'iss', 'aud', 'iat', 'exp', 'jti', 'body_hash', 'body_len']

// One session with one peer: the agreed stream, its credit, its blobs.

class Session {
  constructor (peer, peerId, host, stream, frames, generation, boot) {
    Object.assign(this, { peer, peerId, host, stream, frames, generation, boot })
    this.gateway = null // its hello, once that was in order
    this.keys = [] // its signing keys that count, the newest first
    this.express = new Express(this)
    this.taken = this.told = 0 // bytes of the peer's frames, and of these what it knows of
    this.sent = this.credited = 0 // bytes of ours
    this.creditCame = () => {}
    this.fetches = new Map()
    this.seenIds = new Set()
    this.rttMs = null
    this.beats = 0
    this.ended = false
  }

  async run () {
    this.send('hello', this.peer.hello(this.peerId))
    const beat = setInterval(() => { if (this.gateway !== null) this.beat() }, this.peer.heartbeatMs)
    try {
      for await (const { messages, size } of this.frames) {
        // A last word is on the stream, whatever the others go over.
        const bye = messages.find(([kind]) => kind === 'bye')
        if (bye === undefined && this.express.reads) this.express.held.push([messages, size])
        else this.take(messages, size, null)
        if (bye !== undefined) { this.peer.log.push(`bye: ${bye[1].reason}`); this.stream.close() }
      }
    } finally {
      clearInterval(beat)
      this.ended = true
      this.express.drop()
      for (const fetch of this.fetches.values()) fetch.reject(new Error('the session ended'))
      this.creditCame()
    }
  }

  send (kind, fields) {
    this.write(toFrame(this.peer.message(kind, fields)))
  }

  write (frame) {
    if (this.stream.status !== 'open') return
    this.sent += frame.length
    // A record has the body of a frame, and counts as much.
    if (this.express.sends) this.express.link?.send(frame.subarray(4))
    else this.stream.send(frame)
  }

  beat () {
    this.send('heartbeat', { t: new Float(performance.now()) })
  }

  bye (reason) {
    this.stream.send(toFrame(this.peer.message('bye', { reason })))
  }

  // The express connection is gone, and what was in it: the session has to begin anew.
  lost (error) {
    const { losses } = this.peer
    losses.set(this.peerId, [...losses.get(this.peerId) ?? [], Date.now()].slice(-2))
    // The peer may still say why, on the stream.
    setTimeout(() => this.stream.abort(error), LAST_WORD_MS).unref()
  }

  // `link` is the express connection that they came over, null for the stream.
  take (messages, size, link) {
    for (const [at, [kind, fields]] of messages.entries()) {
      this.on(kind, fields, link)
      if (link !== null || !this.express.reads) continue
      // The peer has left the stream, and has come back already: the rest waits for what went by record.
      if (at + 1 < messages.length) this.express.held.push([messages.slice(at + 1), 0])
      break
    }
    this.taken += size
    if (this.taken - this.told >= CREDIT_STEP) this.send('credit', { taken: this.told = this.taken })
  }

  on (kind, fields, link) {
    if (kind === 'hello') return this.onHello(fields)
    if (kind === 'bye') return
    check(this.gateway !== null, `${kind} before a hello`)
    if (link !== null && BARE.has(kind)) return this.onBare(kind, fields, link)
    if (kind === 'plane') return this.express.onMarker(fields.to)
    if (kind === 'heartbeat' && 't' in fields) this.send('heartbeat', { echo: new Float(fields.t) })
    else if (kind === 'heartbeat') { this.rttMs = performance.now() - fields.echo; this.beats++ }
    else if (kind === 'credit') { this.credited = Math.max(this.credited, fields.taken); this.creditCame() }
    else if (kind === 'need') this.onNeed(fields)
    else if (kind === 'blob') this.onBlob(fields)
    else if (kind === 'envelope') this.onEnvelope(fields)
    // Any other kind is from a later version, and ignored.
  }

  // The word of the key that the connection was made with, as long as that is the peer's.
  onBare (kind, fields, link) {
    if (!this.keys.includes(link.theirs)) return
    this.peer.byRecord.heard.push(kind)
    this.peer.onSigned(this, kind, fields, true)
  }

  onHello (fields) {
    check(fields.versions.includes(3), 'no common version')
    const signed = Object.fromEntries(SIGNED_IN_HELLO.map((name) => [name, fields[name]]))
    check(signed.iss === this.peerId && signed.aud === this.peer.id, 'a hello from or for somebody else')
    signed.time = new Float(fields.time)
    check(isSignedBy(fields.key, 'hello', toCbor(signed), fields.sig), 'a hello with a wrong signature')
    this.gateway = fields
    this.keys = [fields.key]
    this.isTrusted = this.peer.trust.has(hex(fields.key))
    // Only a trusted gateway's clock is believed.
    this.clockAhead = this.isTrusted ? fields.time - Date.now() / 1000 : 0
    this.peer.onGateway(this)
  }

  // Blobs, by the stream

  fetch (sha, size, { offset = 0, bulk = false } = {}) {
    return new Promise((resolve, reject) => {
      const done = (bytes) => {
        this.fetches.delete(sha)
        if (offset > 0 || hex(sha256(bytes)) === sha) resolve(bytes)
        else reject(new Error(`the bytes are not ${sha}`))
      }
      this.fetches.set(sha, { sha, size, start: offset, offset, parts: [], done, reject })
      this.send('need', { sha, offset, bulk: bulk && size - offset >= BULK_MIN })
    })
  }

  onBlob ({ sha, offset, body }) {
    const fetch = this.fetches.get(sha)
    if (fetch === undefined) return
    if (body === null) return fetch.reject(new Error(`${this.peerId} does not have ${sha}`))
    check(offset === fetch.offset && offset + body.length <= fetch.size, 'a part that was not asked for')
    fetch.parts.push(body)
    fetch.offset += body.length
    if (fetch.offset === fetch.size) fetch.done(Buffer.concat(fetch.parts))
  }

  async onNeed ({ sha, offset }) {
    const blob = this.peer.served(sha)
    if (blob === undefined) return this.send('blob', { sha, body: null })
    for (let at = offset; ; at += CHUNK) {
      const frame = toFrame(this.peer.message('blob', { sha, offset: at, body: blob.subarray(at, at + CHUNK) }))
      while (this.sent - this.credited + frame.length > WINDOW && !this.ended) {
        await new Promise((resolve) => { this.creditCame = resolve })
      }
      if (this.ended) return
      this.write(frame)
      if (at + CHUNK >= blob.length) return
    }
  }

  // Blobs, by the bulk plane

  async onTicket (ticket) {
    try {
      if (ticket.wanted) {
        this.peer.byBulk.push(ticket.sha)
        return await upload(this.host, ticket, this.peer.served(ticket.sha))
      }
      const fetch = this.fetches.get(ticket.sha)
      this.peer.byBulk.push(ticket.sha)
      fetch.done(await download(this.host, ticket, fetch.size))
    } catch (error) {
      this.peer.log.push(`no bulk plane: ${error.message}`)
      this.send('ticket_refused', { id: ticket.id })
      const fetch = this.fetches.get(ticket.sha)
      if (fetch !== undefined) this.send('need', { sha: fetch.sha, offset: fetch.offset, bulk: false })
    }
  }

  // Signed messages: in envelopes, but for those that an express connection proves

  post (...messages) {
    if (!this.express.vouchesFor(this.peer.publicKey)) return this.postSigned(...messages)
    for (const [kind, fields] of messages) {
      this.peer.byRecord.said.push(kind)
      this.send(kind, fields)
    }
  }

  // Returns the header of the envelope.
  postSigned (...messages) {
    const envelope = this.sealed(...messages)
    this.send('envelope', envelope)
    return envelope.h
  }

  sealed (...messages) {
    const body = toCbor(messages.map(([kind, fields]) => this.peer.message(kind, fields)))
    const now = Math.floor(Date.now() / 1000 + this.clockAhead)
    const header = toCbor({
      v: 3, typ: 'batch', kid: keyId(this.peer.publicKey), iss: this.peer.id, aud: this.peerId,
      iat: now, exp: now + 60, jti: randomBytes(16), body_hash: sha256(body), body_len: body.length
    })
    return { h: header, s: this.peer.sign('batch', header), b: body }
  }

  onEnvelope ({ h, s, b }) {
    const header = fromCbor(h)
    const names = Object.keys(header)
    check(Buffer.compare(toCbor(header), h) === 0, 'a header that is not canonical')
    check(names.length === HEADER.length && HEADER.every((name) => names.includes(name)), 'a header with other fields')
    check(header.v === 3 && header.typ === 'batch', 'another version or type')
    check(header.iss === this.peerId, 'a relayed envelope')
    const key = this.keys.find((each) => keyId(each) === header.kid)
    check(key !== undefined, 'an unknown key')
    check(isSignedBy(key, 'batch', h, s), 'a bad signature')
    check(header.aud === this.peer.id, 'an envelope for somebody else')
    check(header.body_len === b.length && Buffer.compare(sha256(b), header.body_hash) === 0, 'a bad body')
    const theirTime = Date.now() / 1000 + this.clockAhead
    check(header.exp - header.iat <= 300 && header.exp + 120 > theirTime && header.iat - 120 < theirTime, 'expired')
    const isNew = !this.seenIds.has(hex(header.jti))
    this.seenIds.add(hex(header.jti))
    const messages = fromCbor(b)
    for (const [kind, fields] of messages) {
      if (kind === 'ticket' && this.isTrusted && isNew) this.onTicket(fields)
      else if (kind === 'express_offer' && this.isTrusted && isNew && messages.length === 1) this.express.onOffer(fields, h, key)
      else if (kind === 'rotated') this.onRotated(fields)
      else this.peer.onSigned(this, kind, fields, isNew)
    }
  }

  // The word of two keys that the second takes the place of the first.
  onRotated ({ rotations }) {
    for (const [statement, signature, accepted] of rotations) {
      const { peer, old, new: next, until } = fromCbor(statement)
      const isOurs = peer === this.peerId && Buffer.compare(old, this.keys[0]) === 0 && until + 120 > Date.now() / 1000
      if (!isOurs || !isSignedBy(old, 'rotation', statement, signature) || !isSignedBy(next, 'successor', statement, accepted)) continue
      this.keys = [next, this.keys[0]]
      if (this.isTrusted) this.peer.trust.add(hex(next))
    }
  }
}

// The peer: its keys, its sessions, and the work that it holds.

export class Peer {
  static async start ({ seed = randomBytes(32), signer = randomBytes(32), trust = [], name = 'js', listen = '/ip4/127.0.0.1/tcp/0', bulk = true, express = true, heartbeatMs = 5000, version = VERSION } = {}) {
    const node = await createLibp2p({
      privateKey: await generateKeyPairFromSeed('Ed25519', seed),
      addresses: { listen: [listen] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      services: {
        identify: identify(),
        ping: ping(),
        // A gateway's subscription may come after its session: what is told before it is lost, as gossip may be.
        pubsub: gossipsub({ globalSignaturePolicy: 'StrictSign', allowPublishToZeroTopicPeers: true })
      }
    })
    return new this(node, signer, { identity: privateKey(seed), trust, name, bulk, express, heartbeatMs, version })
  }

  constructor (node, signer, { identity, trust, name, bulk, express, heartbeatMs, version }) {
    Object.assign(this, { node, identity, name, bulk, usesExpress: express, heartbeatMs, version, protocol: `/swarm-hub/${version}` })
    this.id = node.peerId.toString()
    this.key = privateKey(signer)
    this.publicKey = createPublicKey(this.key).export({ format: 'der', type: 'spki' }).subarray(-32)
    this.trust = new Set(trust)
    this.boot = randomBytes(16)
    this.bootId = hex(this.boot)
    this.lastSeq = 0
    this.sessions = new Map()
    this.offered = new Set() // as the arbiter: peers to whom a stream was offered with live
    this.seen = new Map() // as the follower: peer id → the last session seen live
    this.held = new Map() // assignment id → its result, null while it is computed
    this.receipts = new Set() // ids of assignments whose results are always signed
    this.losses = new Map() // peer id → when express connections with it were lost, the last two
    this.stopping = false
    this.blobs = new Map() // large results that a gateway has yet to fetch
    this.modules = new Map()
    this.byBulk = [] // hashes of what went over the bulk plane
    this.byRecord = { connections: 0, heard: [], said: [] } // of the express plane: kinds without an envelope
    this.log = []
    node.handle(this.protocol, (stream, connection) => {
      // A stream that does not become the session may be reset at any time.
      this.settle(stream, connection, false).catch((error) => this.log.push(error.message))
    })
  }

  async stop () {
    this.stopping = true
    const sessions = [...this.sessions.values()]
    await Promise.all(sessions.map((session) => session.express.left()))
    for (const session of sessions) session.bye('done')
    await this.node.stop()
  }

  async dial (address) {
    const connection = await this.node.dial(multiaddr(address))
    return this.settle(await connection.newStream(this.protocol), connection, true)
  }

  // Which stream counts

  async settle (stream, connection, opened) {
    const peerId = connection.remotePeer.toString()
    const frames = readFrames(stream)
    const say = (kind, fields) => stream.send(toFrame(this.message(kind, fields)))
    const hear = async () => (await frames.next()).value?.messages[0] ?? ['nothing', {}]
    const agree = this.id < peerId ? this.arbitrate : this.follow
    const agreed = await agree.call(this, peerId, opened, say, hear)
    if (agreed === null) return stream.close().then(() => null)
    const [, , host] = connection.remoteAddr.toString().split('/')
    const session = new Session(this, peerId, host, stream, frames, agreed.generation, agreed.boot)
    this.sessions.get(peerId)?.stream.abort(new Error('replaced'))
    this.sessions.set(peerId, session)
    session.run().catch((error) => this.log.push(error.message)).finally(() => {
      stream.abort(new Error('ended'))
      if (this.sessions.get(peerId) === session) this.sessions.delete(peerId)
    })
    return session
  }

  async arbitrate (peerId, opened, say, hear) {
    // What was offered is as good as the session until its exchange is over.
    if (opened && (this.sessions.has(peerId) || this.offered.has(peerId))) return null
    const opening = opened ? null : await this.heardOpening(hear)
    const current = this.sessions.get(peerId)
    if (!opened && (this.offered.has(peerId) || (current !== undefined && !this.replaces(current, opening)))) {
      say('busy', {})
      return null
    }
    const generation = { boot: this.boot, seq: ++this.lastSeq }
    say('live', generation)
    if (!opened) return { generation, boot: opening.boot }
    this.offered.add(peerId)
    try {
      return { generation, boot: (await this.heardOpening(hear)).boot }
    } finally {
      this.offered.delete(peerId)
    }
  }

  async heardOpening (hear) {
    const [kind, opening] = await hear()
    check(kind === 'open', `${kind} where a session begins with open`)
    return opening
  }

  // A follower that restarted, or that knew the current session, has lost that one.
  replaces (current, opening) {
    const knewIt = Buffer.compare(opening.seen_boot, this.boot) === 0 && opening.seen >= current.generation.seq
    return knewIt || Buffer.compare(current.boot, opening.boot) !== 0
  }

  async follow (peerId, opened, say, hear) {
    const seen = this.seen.get(peerId) ?? { boot: new Uint8Array(), seq: 0 }
    const opening = { boot: this.boot, seen: seen.seq, seen_boot: seen.boot }
    if (opened) say('open', opening)
    const [kind, generation] = await hear()
    if (kind === 'busy') return null
    check(kind === 'live', `${kind} where a session begins with live`)
    const current = this.sessions.get(peerId)?.generation
    if (current !== undefined && Buffer.compare(current.boot, generation.boot) === 0 && generation.seq <= current.seq) return null
    if (!opened) say('open', opening)
    this.seen.set(peerId, generation)
    return { generation, boot: generation.boot }
  }

  // Who this is, and how it speaks

  message (kind, fields) {
    return [kind, fields]
  }

  capabilities () {
    return { worker: { slots: 1, memory_bytes: 256 * 1024 * 1024, features: FEATURES } }
  }

  sign (type, bytes) {
    return sign(null, signedBytes(type, bytes), this.key)
  }

  hello (peerId) {
    const signed = {
      iss: this.id,
      aud: peerId,
      key: this.publicKey,
      time: new Float(Date.now() / 1000),
      name: this.name,
      capabilities: this.capabilities(),
      boot_id: this.bootId,
      db_id: this.bootId
    }
    const cert = sign(null, signedBytes('key', toCbor({ peer: this.id, key: this.publicKey })), this.identity)
    return { versions: [this.version], ...signed, sig: this.sign('hello', toCbor(signed)), cert }
  }

  onGateway (session) {
    if (!session.isTrusted) session.post(['drain', { reason: 'this key is not trusted here' }])
    else if (this.held.size > 0) session.post(['ack', { ids: [...this.held.keys()] }])
    for (const result of this.held.values()) if (result !== null) session.postSigned(['result', result])
    if (session.isTrusted && this.usesExpress) session.express.ask()
  }

  // Work

  onSigned (session, kind, fields, isNew) {
    if (kind === 'assign' && !session.isTrusted) {
      session.post(['nack', { ids: fields.shards.map(([id]) => id), reason: 'not trusted' }])
    } else if (kind === 'assign' && lacking(fields.call).length > 0) {
      const lacks = lacking(fields.call)
      session.post(['nack', { ids: fields.shards.map(([id]) => id), reason: `not known here: ${lacks}`, lacks }])
    } else if (kind === 'assign') {
      session.post(['ack', { ids: fields.shards.map(([id]) => id) }])
      for (const shard of fields.shards) {
        if (!isNew || this.held.has(shard[0])) continue
        if (fields.call.receipt) this.receipts.add(shard[0])
        this.work(session, fields, shard)
      }
    } else if (kind === 'cancel' || kind === 'result_ack') {
      for (const id of fields.ids) { this.blobs.delete(this.held.get(id)?.sha); this.held.delete(id); this.receipts.delete(id) }
    }
  }

  async work (session, { call, module_bytes: moduleBytes }, [id, inputSha, size, data]) {
    this.held.set(id, null)
    const began = performance.now()
    let code = 'ok'; let text = ''; let output = Buffer.alloc(0)
    try {
      const options = { bulk: this.bulk }
      const input = data ?? await session.fetch(inputSha, size, options)
      if (!this.modules.has(call.module_sha)) {
        this.modules.set(call.module_sha, session.fetch(call.module_sha, moduleBytes, options))
      }
      output = run(await this.modules.get(call.module_sha), call, input)
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError)) {
        this.modules.delete(call.module_sha)
        this.held.delete(id)
        return session.post(['nack', { ids: [id], reason: error.message }])
      }
      code = 'trap'
      text = error.message
    }
    if (!this.held.has(id)) return
    const sha = hex(sha256(output))
    const isLarge = output.length > INLINE_MAX
    if (isLarge) this.blobs.set(sha, output)
    const spent = new Float((performance.now() - began) / 1000)
    this.held.set(id, { id, code, text, input_sha: inputSha, sha, size: output.length, call_sha: callSha(call), body: isLarge ? null : output, wall_s: spent, cpu_s: spent })
    this.deliver(session.peerId, id)
  }

  // A resend is a new envelope, until the gateway says that it has the result on disk.
  deliver (peerId, id, isSigned = this.receipts.has(id)) {
    const result = this.held.get(id)
    if (result === undefined || this.node.status !== 'started') return
    const session = this.sessions.get(peerId)
    if (isSigned) session?.postSigned(['result', result])
    else session?.post(['result', result])
    setTimeout(() => this.deliver(peerId, id, true), RESEND_MS).unref()
  }

  served (sha) {
    return this.blobs.get(sha)
  }

  // What a gateway wants to know of this device, on gossip or by record; what is left out is unknown.
  async telemetry ({ cpu_percent: cpu = null, battery_percent: battery = null } = {}) {
    const payload = toCbor({ cpu_percent: cpu, battery_percent: battery })
    const sessions = [...this.sessions.values()]
    for (const session of sessions) if (session.express.sends) session.send('gossip', { topic: TELEMETRY, payload })
    if (!sessions.every((session) => session.express.sends)) await this.node.services.pubsub.publish(TELEMETRY, payload)
  }
}

// What a call needs and must not ignore.
function lacking ({ needs = [] }) {
  return needs.filter((name) => !FEATURES.includes(name))
}

// What a result says of the call that it is of: its module, and how that was called. A field that
// is not known is of a later version, and not part of it.
export function callSha ({ module_sha: moduleSha, ...call }) {
  const rest = Object.fromEntries(CALL.filter((name) => name in call).map((name) => [name, call[name]]))
  if (rest.wall_time_s !== null) rest.wall_time_s = new Float(rest.wall_time_s)
  if (rest.script !== undefined) rest.script = { name: rest.script.name, sha: rest.script.sha, size_bytes: rest.script.size_bytes }
  rest.env = rest.env.map(([name, text]) => [name, text])
  return hex(sha256(Buffer.concat([Buffer.from(moduleSha, 'hex'), sha256(toCbor(rest))])))
}
