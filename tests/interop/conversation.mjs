// What a libp2p peer that is not ours sees of a node: `node conversation.mjs ADDRESS MESH [MODULE OF QUIC]`, in the directory
// of the example client. Prints one line of JSON, which test_js_client.py judges.

import { setTimeout as sleep } from 'node:timers/promises'
import { multiaddr } from '@multiformats/multiaddr'
import { CallFailed, MeshClient, followOffers } from './client.js'
import { createHost } from './host.js'

const [address, mesh, moduleOfQuic] = process.argv.slice(2)
const seen = {}

async function failureOf (promise) {
  try {
    return { answered: (await promise).text }
  } catch (error) {
    return { kind: error.kind ?? error.name, message: error.message, ours: error instanceof CallFailed }
  }
}

async function until (condition, what, withinMs = 20000) {
  const deadline = Date.now() + withinMs
  while (!await condition()) {
    if (Date.now() > deadline) throw new Error(`${what} did not come in time`)
    await sleep(20)
  }
}

function once (target, name) {
  return new Promise((resolve) => target.addEventListener(name, (event) => resolve(event.detail), { once: true }))
}

async function identifyAndPing (host) {
  const identified = once(host, 'peer:identify')
  const connection = await host.dial(multiaddr(address))
  const { protocols, agentVersion, listenAddrs } = await identified
  seen.identify = { protocols, agentVersion, listenAddrs: listenAddrs.map(String) }
  seen.peer = connection.remotePeer.toString()
  seen.encryption = connection.encryption
  seen.ping_ms = await host.services.ping.ping(connection.remotePeer)
}

async function ask (client) {
  seen.hello = client.hello
  seen.offers = await client.offers()
  seen.solved = await client.ask('solver', 'mathematics', 'solve x^2 - 5x + 6 = 0')
  const pieces = []
  seen.streamed = await client.ask('drip', 'language', 'one two three four', { onText: (text) => pieces.push(text) })
  seen.pieces = pieces
  seen.unknown_expert = await failureOf(client.ask('nobody', 'language', 'hi'))
  seen.unknown_method = await failureOf(client.call('no.such', {}))
}

// A body beyond the window and beyond a frame, in both directions; others are answered meanwhile.
async function askMuch (client) {
  const words = 'long '.repeat(160_000)
  const long = client.ask('patient', 'language', `1 ${words}`)
  seen.meanwhile = (await client.ask('solver', 'mathematics', '17*23')).text
  seen.long = { asked: words.length, answered: (await long).text.length }
}

async function giveUp (client) {
  const controller = new AbortController()
  const cancelled = failureOf(client.ask('patient', 'language', '30000 late', { signal: controller.signal }))
  await until(async () => (await client.offers()).offers.some((offer) => offer.in_flight > 0), 'the call')
  controller.abort()
  seen.cancelled = await cancelled
  seen.expired = await failureOf(client.ask('patient', 'language', '30000 late', { timeoutMs: 300 }))
  await until(async () => (await client.offers()).offers.every((offer) => offer.in_flight === 0), 'the end of the calls')
  seen.after = (await client.ask('patient', 'language', '1 still here')).text
}

async function follow (host) {
  const heard = []
  const end = followOffers(host, mesh, (offers) => heard.push(offers))
  await until(() => heard.length >= 2, 'the gossip of offers')
  end()
  seen.gossip = heard[1]
}

const options = moduleOfQuic ? { transports: [(await import(moduleOfQuic)).quic()] } : {}
const host = await createHost(options)
const stranger = await createHost(options)
try {
  await identifyAndPing(host)
  const client = await MeshClient.connect(host, address, { mesh, name: 'js', heartbeatMs: 500 })
  await ask(client)
  await askMuch(client)
  await giveUp(client)
  await follow(host)
  seen.still_open = !client.closed
  await client.close()
  seen.other_mesh = await failureOf(MeshClient.connect(stranger, address, { mesh: 'elsewhere' }))
} finally {
  await Promise.all([host.stop(), stranger.stop()])
}
console.log(JSON.stringify(seen))
