// A client of the peer protocol `/mesh/expert/1.0.0` over js-libp2p, written from docs/protocol.md.

import './node20.js'
import { createHash, randomUUID } from 'node:crypto'
import { multiaddr } from '@multiformats/multiaddr'
import { Call, CallFailed } from './call.js'
import { FrameReader, Kind, NOTHING, concat, encodeFrame, encodeHead, fromJson, toJson, u32, u64 } from './frames.js'

export { CallFailed }

export const PROTOCOL = '/mesh/expert/1.0.0'
const LIMITS = { max_frame_bytes: 65536, max_body_bytes: 8388608, requests: 1, window_bytes: 262144 }
// What fits into the frame of its head goes there.
const MAX_INLINE_BYTES = 4096
const HANDSHAKE_MS = 5000
const utf8 = new TextEncoder()

export class MeshClient {
  #stream
  #calls = new Map()
  #number = 0
  #pings = 0
  #heartbeat
  #greeted
  #reader = new FrameReader(LIMITS.max_frame_bytes)

  // Connects `libp2p` to the node at `address` (a multiaddr that ends in /p2p/<PeerId>), and says hello.
  // Throws CallFailed of kind `refused` when the node is of another mesh.
  static async connect (libp2p, address, { mesh = 'mesh', name = '', heartbeatMs = 5000 } = {}) {
    const connection = await libp2p.dial(multiaddr(address))
    const client = new MeshClient(connection, await connection.newStream(PROTOCOL))
    await client.#greet({ versions: [1], mesh, name, role: 'client', heartbeat_ms: heartbeatMs, limits: LIMITS })
    return client
  }

  constructor (connection, stream) {
    this.connection = connection
    this.peer = connection.remotePeer
    this.closed = false
    this.#stream = stream
    this.#greeted = Promise.withResolvers()
    this.#read()
  }

  // The experts that the node serves: the object of section 9, `expert.offers`.
  async offers (options) {
    const { body } = await this.call('expert.offers', {}, NOTHING, options)
    return offersOf(body, this.peer)
  }

  // Asks an expert. With `onText`, pieces of the answer are handed over as they are made. Resolves to
  // {text, ...result header} once the digest and the node's signature over it have been checked.
  async ask (expert, domain, content, { onText, options = {}, request = randomUUID(), ...rest } = {}) {
    const chunks = []
    const decoder = new TextDecoder()
    const onChunk = (bytes) => {
      chunks.push(bytes)
      onText?.(decoder.decode(bytes, { stream: true }))
    }
    const header = { request, expert, domain, stream: onText !== undefined, options }
    const reply = await this.call('expert.ask', header, utf8.encode(content), { onChunk, ...rest })
    const answer = concat(...chunks, reply.body.subarray(reply.header.skip_bytes ?? 0))
    await this.#check(answer, request, expert, reply.header)
    return { ...reply.header, text: new TextDecoder().decode(answer), request }
  }

  // Calls any method. Resolves to {header, body}; throws CallFailed. `signal` (an AbortSignal) cancels the call.
  async call (method, header, body = NOTHING, { timeoutMs = 30000, signal, onChunk = () => {} } = {}) {
    if (this.closed) {
      throw new CallFailed('disconnected', 'the stream has ended', true)
    }
    signal?.throwIfAborted()
    const number = ++this.#number
    const send = (frame) => this.#send(frame)
    const call = new Call(number, { credit: this.hello.limits.window_bytes, send, onChunk })
    const cancel = (kind, message) => {
      this.#send(encodeFrame(Kind.CANCEL, number))
      call.reject(new CallFailed(kind, message))
    }
    const onAbort = () => cancel('cancelled', 'nobody wants the answer any more')
    const deadline = setTimeout(() => cancel('expired', `no answer within ${timeoutMs} ms`), timeoutMs)
    signal?.addEventListener('abort', onAbort)
    this.#calls.set(number, call)
    try {
      this.#sendRequest(call, { method, timeout_ms: timeoutMs, body_bytes: body.length, header }, body)
      return await call.done
    } finally {
      clearTimeout(deadline)
      signal?.removeEventListener('abort', onAbort)
      this.#calls.delete(number)
    }
  }

  async close () {
    this.#end(new CallFailed('disconnected', 'closed by this side'))
    await this.#stream.close()
  }

  #sendRequest (call, head, body) {
    const encoded = encodeHead(head)
    const inline = encoded.length + body.length <= MAX_INLINE_BYTES
    this.#send(encodeFrame(Kind.REQUEST, call.number, inline ? concat(encoded, body) : encoded))
    if (!inline) {
      call.sendBody(body, Math.min(LIMITS.max_frame_bytes, this.hello.limits.max_frame_bytes))
    }
  }

  async #greet (hello) {
    const timer = setTimeout(() => this.#end(new CallFailed('refused', 'no hello in time')), HANDSHAKE_MS)
    try {
      this.#send(encodeFrame(Kind.HELLO, 0, toJson(hello)))
      this.hello = await this.#greeted.promise
    } finally {
      clearTimeout(timer)
    }
    this.#heartbeat = setInterval(() => this.#ping(), hello.heartbeat_ms)
    this.#heartbeat.unref()
  }

  #ping () {
    this.#send(encodeFrame(Kind.PING, ++this.#pings, u64(Date.now() * 1000)))
  }

  #send (frame) {
    if (!this.closed) {
      this.#stream.send(frame) // js-libp2p buffers what the connection does not take yet; credit bounds it
    }
  }

  async #read () {
    try {
      for await (const bytes of this.#stream) {
        for (const frame of this.#reader.push(bytes.subarray())) {
          this.#onFrame(frame)
        }
      }
      this.#end(new CallFailed('disconnected', 'the node closed the stream', true))
    } catch (error) {
      this.#end(error instanceof CallFailed ? error : new CallFailed('disconnected', error.message, true))
      this.#stream.abort(error)
    }
  }

  #onFrame ({ kind, call, body }) {
    if (kind === Kind.HELLO) {
      this.#greeted.resolve(fromJson(body))
    } else if (kind === Kind.ERROR && call === 0) {
      const { kind, message } = fromJson(body)
      throw new CallFailed(kind, message)
    } else if (kind !== Kind.PONG) {
      this.#calls.get(call)?.onFrame(kind, body) // frames of calls that are over crossed with their end
    }
  }

  #end (error) {
    if (this.closed) {
      return
    }
    this.closed = true
    clearInterval(this.#heartbeat)
    this.#greeted.reject(error)
    this.#greeted.promise.catch(() => {})
    for (const call of this.#calls.values()) {
      call.reject(error)
    }
  }

  async #check (answer, request, expert, { model, digest, signature }) {
    const found = createHash('sha256').update(answer).digest('hex')
    const signed = ['mesh-answer/1', request, expert, model, digest].map((text) => utf8.encode(text))
    const bytes = concat(...signed.flatMap((field) => [u32(field.length), field]))
    if (found !== digest || !await this.peer.publicKey.verify(bytes, Buffer.from(signature, 'hex'))) {
      throw new CallFailed('forged', 'the digest or the signature of the answer does not hold')
    }
  }
}

// Follows what the nodes of a mesh gossip about their experts. `libp2p` needs gossipsub as its service `pubsub`.
// Returns a function that ends it.
export function followOffers (libp2p, mesh, onOffers) {
  const { pubsub } = libp2p.services
  const topic = `/mesh/${mesh}/offers/1.0.0`
  const onMessage = ({ detail: message }) => {
    if (message.topic === topic) {
      onOffers(offersOf(message.data, message.from))
    }
  }
  pubsub.addEventListener('message', onMessage)
  pubsub.subscribe(topic)
  return () => {
    pubsub.unsubscribe(topic)
    pubsub.removeEventListener('message', onMessage)
  }
}

// What a peer says counts for that peer alone.
function offersOf (bytes, signer) {
  const offers = fromJson(bytes)
  if (offers.peer !== signer.toString()) {
    throw new CallFailed('protocol', `${signer} offers the experts of ${offers.peer}`)
  }
  return offers
}
