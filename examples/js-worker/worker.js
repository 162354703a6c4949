// An expert of a mesh, as a NATS service: it answers word by word, in capitals, and stops when it is told to.
//
//   npm ci && mesh creds worker --json > worker.json && node worker.js worker.json
import { readFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { connect, headers, StringCodec } from 'nats'

const { url, user, password } = JSON.parse(readFileSync(process.argv[2]))
const text = StringCodec()
const connection = await connect({ servers: url, user, pass: password })

// Whoever takes a call back publishes to the subject that came along with it.
const taken = new Set()
connection.subscribe('mesh.cancel.*', { callback: (_error, message) => taken.add(message.subject) })

async function answer (message) {
  const { content, options } = JSON.parse(text.decode(message.data))
  const words = content.split(/\s+/).filter(Boolean)
  if (words.length === 0) return message.respondError(400, 'there is nothing to shout: the text is empty')
  const cancel = message.headers.get('Mesh-Cancel')
  for (const word of words) {
    if (taken.delete(cancel)) return console.log(`taken back ${message.headers.get('Mesh-Request')}`)
    const more = headers()
    more.set('Mesh-More', '1')
    message.respond(text.encode(word.toUpperCase() + ' '), { headers: more })
    await pause(options.pause_ms ?? 0)
  }
  const last = headers()
  last.set('Mesh-Tokens-Out', String(words.length))
  message.respond(text.encode(''), { headers: last })
}

const service = await connection.services.add({
  name: 'shouter-js',
  version: '1.0.0',
  description: 'Says it louder',
  metadata: { 'mesh.domains': 'language', 'mesh.model': 'shouter.js 1', 'mesh.concurrency': '8' }
})
service.addEndpoint('answer', {
  subject: 'shouter.answer',
  handler: (error, message) => { if (!error) answer(message).catch((problem) => message.respondError(500, String(problem))) }
})
console.log('ready')
await connection.closed()
