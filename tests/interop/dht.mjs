// A node of the DHT that is js-libp2p's: `node dht.mjs ADDRESS PROTOCOL SOUGHT PROVIDED`, in the directory of the example
// client. Dials the node, prints who provides the text SOUGHT once somebody does, provides PROVIDED, and says so; serves
// until its standard input ends.

import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { createHost } from './host.js'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { multiaddr } from '@multiformats/multiaddr'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import * as Digest from 'multiformats/hashes/digest'

const [address, protocol, sought, provided] = process.argv.slice(2)
const SHA2_256 = 0x12
const say = (line) => console.log(JSON.stringify(line))
const cidOf = (text) => CID.createV1(raw.code, Digest.create(SHA2_256, createHash('sha256').update(text).digest()))

const host = await createHost({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  services: {
    identify: identify(),
    ping: ping(),
    dht: kadDHT({ protocol, clientMode: false, peerInfoMapper: passthroughMapper, allowQueryWithZeroPeers: true })
  }
})
await host.services.dht.setMode('server')
await host.dial(multiaddr(address))

async function providers (cid) {
  const found = []
  for await (const { id, multiaddrs } of host.contentRouting.findProviders(cid, { signal: AbortSignal.timeout(10_000) })) {
    found.push({ peer: id.toString(), addresses: multiaddrs.map(String) })
  }
  return found
}

let found = []
while (found.length === 0) {
  found = await providers(cidOf(sought)).catch(() => [])
  await sleep(100)
}
say({ peer: host.peerId.toString(), found })
await host.contentRouting.provide(cidOf(provided), { signal: AbortSignal.timeout(100_000) })
say({ provided })
process.stdin.resume()
await new Promise((resolve) => process.stdin.once('end', resolve))
process.exit(0)
