// One call of the peer protocol as its caller sees it: docs/protocol.md, sections 5 and 6.

import './node20.js'
import { Kind, NOTHING, concat, decodeHead, encodeFrame, fromJson, readU32, u32 } from './frames.js'

// Why there is no answer. `kind` is one of the document, or `disconnected`, `cancelled`, `expired` from this side.
export class CallFailed extends Error {
  constructor (kind, message, retryable = false) {
    super(`${kind}: ${message}`)
    this.name = 'CallFailed'
    this.kind = kind
    this.retryable = retryable
  }
}

export class Call {
  // `send(frame)` writes to the stream; `onChunk(bytes)` takes the pieces of a streamed answer.
  constructor (number, { credit, send, onChunk }) {
    this.number = number
    const { promise, resolve, reject } = Promise.withResolvers()
    Object.assign(this, { done: promise, resolve, reject })
    promise.catch(() => {}) // whoever awaits it is told; nobody need
    this.credit = credit
    this.send = send
    this.onChunk = onChunk
    this.unsent = NOTHING
    this.result = null
    this.parts = []
    this.missing = 0
  }

  // Sends as much of the request's body as there is credit for; the rest waits for CREDIT.
  sendBody (body, maxFrame) {
    this.maxFrame = maxFrame
    this.unsent = body
    while (this.unsent.length > 0 && this.credit > 0) {
      const size = Math.min(this.unsent.length, this.credit, maxFrame)
      this.send(encodeFrame(Kind.BODY, this.number, this.unsent.subarray(0, size)))
      this.unsent = this.unsent.subarray(size)
      this.credit -= size
    }
  }

  onFrame (kind, body) {
    switch (kind) {
      case Kind.ACCEPTED:
        return
      case Kind.CREDIT:
        this.credit += readU32(body)
        return this.sendBody(this.unsent, this.maxFrame)
      case Kind.CHUNK:
        this.onChunk(body)
        return this.#grant(body.length)
      case Kind.RESULT:
        return this.#onResult(body)
      case Kind.BODY:
        this.#take(body)
        return this.result !== null && this.missing > 0 ? this.#grant(body.length) : undefined
      case Kind.ERROR: {
        const { kind, message, retryable } = fromJson(body)
        return this.reject(new CallFailed(kind, message, retryable))
      }
      default:
        throw new Error(`a frame of kind ${kind} cannot be part of an answer`)
    }
  }

  #onResult (body) {
    const [head, beginning] = decodeHead(body)
    this.result = head
    this.missing = head.body_bytes ?? 0
    this.#take(beginning)
  }

  #take (bytes) {
    this.parts.push(bytes)
    this.missing -= bytes.length
    if (this.missing === 0) {
      this.resolve({ header: this.result.header ?? {}, body: concat(...this.parts) })
    } else if (this.missing < 0) {
      throw new Error('more of a result than was announced')
    }
  }

  #grant (bytes) {
    if (bytes > 0) {
      this.send(encodeFrame(Kind.CREDIT, this.number, u32(bytes)))
    }
  }
}
