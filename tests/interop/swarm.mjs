// Many peers in one process, each with an identity of its own: `node swarm.mjs ADDRESS MESH COUNT SECONDS`, in the
// directory of the example client. All dial the node, offer an expert by call and by gossip, serve it, and ask the
// node's expert again and again for so many seconds; who is disconnected dials again, and asks again what it had asked.
// Prints a line of JSON once all are connected, and one when all have asked; serves until its standard input ends.

import { createHash } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { MeshClient, PROTOCOL } from './client.js'
import { FrameReader, Kind, concat, decodeHead, encodeFrame, encodeHead, toJson, u32, u64 } from './frames.js'
import { createHost } from './host.js'
import { generateKeyPair } from '@libp2p/crypto/keys'

const AT_A_TIME = 8
const OFFER_EVERY_MS = 10_000
const PATIENCE_MS = 60_000
// So many in one process answer their own pings late: without this they hang up on the node for it.
const PATIENT = { connectionMonitor: { abortConnectionOnPingFailure: false } }
const LIMITS = { max_frame_bytes: 65536, max_body_bytes: 8388608, requests: 256, window_bytes: 262144 }
const [address, mesh, count, seconds] = process.argv.slice(2).map((text) => /^\d+$/.test(text) ? Number(text) : text)
const figures = { connected: 0, answered: 0, failed: 0, again: 0, served: 0, lost: 0, took: [], failures: {} }
const utf8 = new TextEncoder()

// The acceptor's side of the protocol, as much of it as a test needs.
class Peer {
  constructor (host, privateKey, number) {
    Object.assign(this, { host, privateKey, number })
    host.handle(PROTOCOL, (stream) => this.answer(stream))
  }

  offers () {
    const offer = {
      expert: `echo-${this.number}`, model: 'echo', domains: ['echo'], concurrency: 4, queue_limit: 64,
      in_flight: 0, queued: 0, available: true, quality: 0.5
    }
    return toJson({ version: 1, peer: this.host.peerId.toString(), valid_s: 300, offers: [offer] })
  }

  async answer (stream) {
    const reader = new FrameReader(LIMITS.max_frame_bytes)
    try {
      for await (const bytes of stream) {
        for (const frame of reader.push(bytes.subarray())) {
          await this.onFrame(stream, frame)
        }
      }
    } catch {
      figures.lost += 1
    }
  }

  async onFrame (stream, { kind, call, body }) {
    if (kind === Kind.HELLO) {
      const hello = { versions: [1], mesh, name: `js-${this.number}`, heartbeat_ms: 1000, limits: LIMITS }
      stream.send(encodeFrame(Kind.HELLO, 0, toJson(hello)))
    } else if (kind === Kind.PING) {
      stream.send(encodeFrame(Kind.PONG, call, concat(body, u64(Date.now() * 1000))))
    } else if (kind === Kind.REQUEST) {
      const [head, content] = decodeHead(body)
      const [header, reply] = head.method === 'expert.offers' ? [{}, this.offers()] : await this.ask(head.header, content)
      const result = encodeHead({ body_bytes: reply.length, header })
      stream.send(encodeFrame(Kind.RESULT, call, concat(result, reply)))
    }
  }

  async ask ({ request, expert }, content) {
    figures.served += 1
    const digest = createHash('sha256').update(content).digest('hex')
    const signed = ['mesh-answer/1', request, expert, 'echo', digest].map((text) => utf8.encode(text))
    const signature = await this.privateKey.sign(concat(...signed.flatMap((field) => [u32(field.length), field])))
    const usage = { tokens_in: -1, tokens_out: -1, first_token_ms: -1, latency_ms: 0 }
    return [{ model: 'echo', digest, signature: Buffer.from(signature).toString('hex'), ...usage }, content]
  }

  async join () {
    const began = performance.now()
    await this.insist(() => this.connect())
    figures.connected += 1
    figures.took.push(performance.now() - began)
    this.stay()
  }

  // Whoever is disconnected dials again, for as long as the process runs.
  async stay () {
    for (;;) {
      await sleep(1000)
      if (this.client.closed) {
        await this.insist(() => this.connect())
      }
    }
  }

  async connect () {
    this.client = await MeshClient.connect(this.host, address, { mesh, name: `js-${this.number}`, heartbeatMs: 1000 })
  }

  async question () {
    return this.client.ask('null', 'language', 'hello', { timeoutMs: 10_000 })
  }

  // What `work` resolves to, as often as it takes within a minute.
  async insist (work) {
    for (const deadline = performance.now() + PATIENCE_MS; ;) {
      try {
        return await work()
      } catch (error) {
        if (performance.now() > deadline) {
          throw error
        }
        figures.again += 1
        figures.failures[error.message] = (figures.failures[error.message] ?? 0) + 1
        await sleep(500 + Math.random() * 1000)
      }
    }
  }

  async gossip (until) {
    this.host.services.pubsub.subscribe(`/mesh/${mesh}/offers/1.0.0`)
    await sleep(Math.random() * OFFER_EVERY_MS)
    while (performance.now() < until) {
      await this.host.services.pubsub.publish(`/mesh/${mesh}/offers/1.0.0`, this.offers())
      await sleep(OFFER_EVERY_MS)
    }
  }

  async work (until, latencies) {
    while (performance.now() < until) {
      const began = performance.now()
      try {
        await this.insist(() => this.question())
        figures.answered += 1
        latencies.push(performance.now() - began)
      } catch {
        figures.failed += 1
      }
      await sleep(500 + Math.random() * 1000)
    }
  }
}

const percentile = (values, percent) =>
  values.sort((a, b) => a - b)[Math.max(0, Math.ceil(values.length * percent / 100) - 1)]

const peers = []
for (let number = 0; number < count; number++) {
  const privateKey = await generateKeyPair('Ed25519')
  peers.push(new Peer(await createHost({ privateKey, ...PATIENT }), privateKey, number))
}
const began = performance.now()
const waiting = [...peers]
await Promise.all(Array.from({ length: AT_A_TIME }, async () => {
  for (let peer = waiting.pop(); peer !== undefined; peer = waiting.pop()) {
    await peer.join()
  }
}))
console.log(JSON.stringify({
  connected: figures.connected, last: peers.at(-1).host.peerId.toString(), all_s: (performance.now() - began) / 1000,
  p50_ms: percentile(figures.took, 50), p99_ms: percentile(figures.took, 99)
}))
const until = performance.now() + seconds * 1000
const latencies = []
await Promise.all(peers.flatMap((peer) => [peer.gossip(until), peer.work(until, latencies)]))
const cpu = process.cpuUsage()
const cpu_s = (cpu.user + cpu.system) / 1e6
const { answered, failed, again, failures, lost } = figures
const open = peers.filter((peer) => !peer.client.closed).length
console.log(JSON.stringify({
  answered, failed, again, failures, lost, open, cpu_s,
  p50_ms: percentile(latencies, 50), p99_ms: percentile(latencies, 99)
}))
process.stdin.resume()
await new Promise((resolve) => process.stdin.once('end', resolve))
console.log(JSON.stringify({ served: figures.served }))
process.exit(0)
