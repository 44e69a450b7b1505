// Lets the tests drive a peer: one JSON command a line on stdin, one JSON answer a line on stdout.

import { createPublicKey, sign } from 'node:crypto'
import { createInterface } from 'node:readline'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { opening, seal } from './bulk.mjs'
import * as express from './express.mjs'
import { callSha, Peer } from './peer.mjs'
import { Float, hex, keyId, privateKey, sha256, signedBytes, toCbor, toFrame } from './wire.mjs'

const ADDED = { later: { deep: [1, ['2'], { 3: null }] }, later_too: 7 }

// A peer whose signatures of one type can be made wrong, that can speak as a later version, and that
// can hold what it is given without a beginning.
class Flawed extends Peer {
  sign (type, bytes) {
    const signature = super.sign(type, bytes)
    if (type === this.flaw) signature[0] ^= 1
    return signature
  }

  work (session, assign, shard) {
    if (!Flawed.isIdle) return super.work(session, assign, shard)
    this.held.set(shard[0], null)
  }

  message (kind, fields) {
    if (!Flawed.isLater) return super.message(kind, fields)
    return [kind, { ...fields, ...ADDED }, null, ADDED]
  }

  capabilities () {
    const { worker } = super.capabilities()
    if (Flawed.promises !== undefined) worker.features = Flawed.promises
    return Flawed.isLater ? { worker: { ...worker, ...ADDED }, later: ADDED } : { worker }
  }
}

let peer
const gossip = []
const unhex = (text) => Buffer.from(text, 'hex')
const session = (peerId) => peer.sessions.get(peerId)
const peerIdOf = async (seed) => peerIdFromPrivateKey(await generateKeyPairFromSeed('Ed25519', seed)).toString()
const connection = (peerId) => peer.node.getConnections().find((one) => one.remotePeer.toString() === peerId)

// What leads to an express connection, and its records.
function expressExamples (worker, gateway, askerKey) {
  const of = (number, length) => Buffer.alloc(length, number)
  const offererKey = createPublicKey(privateKey(of(9, 32))).export({ format: 'der', type: 'spki' }).subarray(-32)
  const header = (key, iss, aud, jti, body) => toCbor({
    v: 3, typ: 'batch', kid: keyId(key), iss, aud, iat: 1700000000, exp: 1700000060,
    jti: Buffer.from([...Array(16).keys()].map((number) => jti + number)), body_hash: sha256(body), body_len: body.length
  })
  const place = { boot: 'b', peer_boot: 'b', session: [of(7, 16), 1] }
  const [asked, offered] = [7, 8].map((number) => express.ephemeral(of(number, 32)))
  const ask = toCbor([['express_ask', { suites: [1], eph: asked.eph, ...place }]])
  const askHeader = header(askerKey, worker, gateway, 0, ask)
  const id = of(5, 16)
  const offer = toCbor([['express_offer', { suite: 1, id, eph: offered.eph, port: 4002, ...place, ask: sha256(askHeader) }]])
  const offerHeader = header(offererKey, gateway, worker, 16, offer)
  const t = express.transcript(askHeader, askerKey, offerHeader, offererKey)
  const [ours, theirs] = express.secrets(asked.key, offered.eph, t)
  const answer = new express.Direction(theirs).seal(express.proof(t))
  const late = new express.Direction(ours, 2 ** 20).seal(toCbor([]))
  const first = express.opening(id, new express.Direction(ours), t)
  return [ask, askHeader, offererKey, offer, offerHeader, t, ours, theirs, first, answer, late]
}

const COMMANDS = {
  async start ({ seed, signer, flaw, later = false, idle = false, promises, heartbeat_ms: heartbeatMs, ...options }) {
    Object.assign(Flawed, { isLater: later, isIdle: idle, promises })
    peer = await Flawed.start({ ...options, heartbeatMs, seed: unhex(seed), signer: unhex(signer) })
    peer.flaw = flaw
    peer.node.services.pubsub.addEventListener('message', ({ detail }) => {
      gossip.push({ topic: detail.topic, from: detail.from.toString(), data: hex(detail.data) })
    })
    const [address] = peer.node.getMultiaddrs()
    return { id: peer.id, address: address.toString(), public_key: hex(peer.publicKey) }
  },

  async dial ({ address }) {
    return { live: await peer.dial(address) !== null }
  },

  state ({ peer_id: peerId }) {
    const live = session(peerId)
    const { gateway = null, rttMs = null, beats = 0, isTrusted = null, express } = live ?? {}
    return {
      live: live !== undefined,
      arbiter: peer.id < peerId,
      gateway: gateway?.name ?? null,
      is_later: gateway !== null && 'later' in gateway,
      trusted: isTrusted,
      rtt_ms: rttMs,
      beats,
      express: express !== undefined && express.sends && express.reads,
      by_record: peer.byRecord,
      seq: live?.generation.seq ?? null,
      held: [...peer.held.keys()],
      by_bulk: peer.byBulk,
      log: peer.log,
      gossip
    }
  },

  async ping ({ address }) {
    return { ms: await peer.node.services.ping.ping(multiaddr(address)) }
  },

  async identify ({ peer_id: peerId }) {
    const found = await peer.node.services.identify.identify(connection(peerId))
    return { id: found.peerId.toString(), agent: found.agentVersion, protocols: found.protocols }
  },

  subscribe ({ topic }) {
    peer.node.services.pubsub.subscribe(topic)
  },

  subscribers ({ topic }) {
    return peer.node.services.pubsub.getSubscribers(topic).map(String)
  },

  async publish ({ topic, data }) {
    await peer.node.services.pubsub.publish(topic, unhex(data))
  },

  async telemetry (fields) {
    await peer.telemetry(fields)
  },

  async fetch ({ peer_id: peerId, sha, size, offset }) {
    const bytes = await session(peerId).fetch(sha, size, { offset })
    return { size: bytes.length, sha: hex(sha256(bytes)) }
  },

  trust ({ key }) {
    peer.trust.add(key)
  },

  flaw ({ type }) {
    peer.flaw = type
  },

  say ({ peer_id: peerId, kind, fields }) {
    session(peerId).send(kind, fields)
  },

  // What it holds without a beginning is lost, as by one that has restarted.
  work_now () {
    Flawed.isIdle = false
    peer.held.clear()
  },

  // The path of its express connection breaks.
  lose ({ peer_id: peerId }) {
    session(peerId).express.link.socket.destroy()
  },

  // An envelope with a `drain` in it, as it was written, for the gateway that it names.
  envelope ({ peer_id: peerId, reason }) {
    const envelope = session(peerId).sealed(['drain', { reason }])
    return { h: hex(envelope.h), s: hex(envelope.s), b: hex(envelope.b) }
  },

  deliver ({ peer_id: peerId, h, s, b }) {
    session(peerId).write(toFrame(['envelope', { h: unhex(h), s: unhex(s), b: unhex(b) }]))
  },

  // What the end of docs/protocol.md shows, in its order.
  async examples () {
    const of = (number, length) => Buffer.alloc(length, number)
    const [iss, aud] = await Promise.all([1, 2].map((number) => peerIdOf(of(number, 32))))
    const key = privateKey(of(3, 32))
    const publicKey = createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32)
    const signature = (type, bytes) => sign(null, signedBytes(type, bytes), key)
    const hello = toCbor({
      iss, aud, key: publicKey, time: new Float(1700000000), name: 'phone',
      capabilities: { worker: { slots: 2, memory_bytes: 268435456 } }, boot_id: 'b', db_id: 'd'
    })
    const body = toCbor([['ack', { ids: ['a.0.1'] }]])
    const header = toCbor({
      v: 3, typ: 'batch', kid: keyId(publicKey), iss, aud, iat: 1700000000, exp: 1700000060,
      jti: Buffer.from([...Array(16).keys()]), body_hash: sha256(body), body_len: body.length
    })
    const open = toFrame(['open', { boot: of(7, 16), seen: 0, seen_boot: Buffer.alloc(0) }])
    const credit = toFrame(['credit', { taken: 32768 }])
    const chunk = seal({ key: of(4, 32), id: of(5, 16) }, 256 * 1024, Buffer.from('swarm'))
    const cert = sign(null, signedBytes('key', toCbor({ peer: iss, key: publicKey })), privateKey(of(1, 32)))
    const call = {
      module_sha: '06'.repeat(32), abi: 'bytes', entry: 'run', fuel: null, memory_bytes: null, wall_time_s: 30,
      output_bytes: null, args: [], env: [], deterministic: false
    }
    const ticket = { key: of(4, 32), id: of(5, 16) }
    const shown = [
      iss, aud, publicKey, keyId(publicKey), open, credit, hello, signature('hello', hello),
      cert, callSha(call), body, header, signature('batch', header), ...expressExamples(iss, aud, publicKey),
      opening(ticket), chunk
    ]
    return shown.map((each) => typeof each === 'string' ? each : hex(each))
  },

  async stop () {
    await peer.stop()
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, command, ...fields } = JSON.parse(line)
  // Commands may overlap: each answer says which it is of.
  Promise.resolve().then(() => COMMANDS[command](fields)).then(
    (answer) => ({ id, answer: answer ?? null }),
    (error) => ({ id, error: String(error?.stack ?? error) })
  ).then((answer) => process.stdout.write(JSON.stringify(answer) + '\n'))
}
process.exit(0)
