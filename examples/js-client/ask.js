#!/usr/bin/env node
// node ask.js ADDRESS QUESTION [--domain mathematics] [--mesh mesh] [--expert NAME]

import { parseArgs } from 'node:util'
import { MeshClient } from './client.js'
import { createHost } from './host.js'

const { values, positionals: [address, question] } = parseArgs({
  allowPositionals: true,
  options: {
    domain: { type: 'string', default: 'mathematics' },
    mesh: { type: 'string', default: 'mesh' },
    expert: { type: 'string' }
  }
})
if (question === undefined) {
  console.error('usage: node ask.js ADDRESS QUESTION [--domain NAME] [--mesh NAME] [--expert NAME]')
  process.exit(2)
}

const host = await createHost()
try {
  const client = await MeshClient.connect(host, address, { mesh: values.mesh, name: 'ask.js' })
  const { offers } = await client.offers()
  const expert = values.expert ?? offers.find((offer) => offer.domains.includes(values.domain))?.expert
  if (expert === undefined) {
    throw new Error(`nobody there answers ${values.domain}; there are: ${offers.map((offer) => offer.expert).join(', ')}`)
  }
  const { text, model, latency_ms: took } = await client.ask(expert, values.domain, question)
  console.log(text)
  console.error(`${expert} (${model}), ${took.toFixed(1)} ms, signed by ${client.peer}`)
  await client.close()
} catch (error) {
  console.error(error.message)
  process.exitCode = 1
} finally {
  await host.stop()
}
