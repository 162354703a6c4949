// `node peer.js dial libdatachannel|google ADDRESS` pings the node there and has 1 MiB echoed;
// `node peer.js listen ADDRESS` prints where it listens and echoes what comes on PROTOCOL, until its input ends.
// `google` takes what js-libp2p has for browsers, over the WebRTC that Chromium has.

import './node20.js'
import { register } from 'node:module'
import { multiaddr } from '@multiformats/multiaddr'

const PROTOCOL = '/test/echo/1'
const [what, ...rest] = process.argv.slice(2)
const [engine, address] = what === 'dial' ? rest : ['libdatachannel', ...rest]

if (engine === 'google') {
  register('./browser.js', import.meta.url)
  const { default: wrtc } = await import('@roamhq/wrtc')
  globalThis.RTCPeerConnection = class extends wrtc.RTCPeerConnection {
    constructor () {
      super({ iceServers: [] })
    }

    static async generateCertificate () {} // it makes its own
  }
  Object.assign(globalThis, { RTCSessionDescription: wrtc.RTCSessionDescription, RTCIceCandidate: wrtc.RTCIceCandidate })
}

const [{ createLibp2p }, { webRTCDirect }, { noise }, { identify }, { ping }] = await Promise.all([
  import('libp2p'), import('@libp2p/webrtc'), import('@chainsafe/libp2p-noise'), import('@libp2p/identify'), import('@libp2p/ping')
])
const host = await createLibp2p({
  addresses: { listen: what === 'listen' ? [address] : [] },
  transports: [webRTCDirect()],
  connectionEncrypters: [noise()],
  services: { identify: identify(), ping: ping() },
  connectionGater: { denyDialMultiaddr: () => false }
})

async function send (stream, bytes) {
  if (!stream.send(bytes)) {
    await new Promise((resolve) => stream.addEventListener('drain', resolve, { once: true }))
  }
}

async function echo (stream) {
  for await (const bytes of stream) {
    await send(stream, bytes.subarray())
  }
  await stream.close()
}

async function dial () {
  const connection = await host.dial(multiaddr(address))
  const stream = await connection.newStream(PROTOCOL)
  let echoed = 0
  const reading = (async () => {
    for await (const bytes of stream) {
      echoed += bytes.byteLength
    }
  })()
  for (let sent = 0; sent < 1 << 20; sent += 1 << 14) {
    await send(stream, new Uint8Array(1 << 14))
  }
  await stream.close()
  await reading
  const ms = await host.services.ping.ping(connection.remotePeer)
  console.log(JSON.stringify({ peer: host.peerId.toString(), remote: connection.remotePeer.toString(), echoed, ms }))
  await connection.close()
  process.stdin.resume()
}

if (what === 'listen') {
  await host.handle(PROTOCOL, (stream) => echo(stream).catch(() => {}))
  console.log(JSON.stringify({ peer: host.peerId.toString(), address: host.getMultiaddrs()[0].toString() }))
  process.stdin.resume()
} else {
  await dial()
}
process.stdin.once('end', () => process.exit(0))
