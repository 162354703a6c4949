// Frames of the peer protocol: docs/protocol.md, section 3.

export const Kind = Object.freeze({
  HELLO: 1, REQUEST: 2, BODY: 3, ACCEPTED: 4, CHUNK: 5, RESULT: 6, ERROR: 7, CANCEL: 8, CREDIT: 9, PING: 10, PONG: 11
})

// length (4), kind (1), call (8); the length counts kind, call and body.
const HEADER_BYTES = 13
const COUNTED_BYTES = 9

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true })

export const NOTHING = new Uint8Array(0)
export const toJson = (value) => encoder.encode(JSON.stringify(value))
export const fromJson = (bytes) => JSON.parse(decoder.decode(bytes))

export function concat (...parts) {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

export function u32 (number) {
  const bytes = new Uint8Array(4)
  view(bytes).setUint32(0, number)
  return bytes
}

export function u64 (number) {
  const bytes = new Uint8Array(8)
  view(bytes).setBigUint64(0, BigInt(number))
  return bytes
}

export function readU32 (bytes) {
  return view(bytes).getUint32(0)
}

export function encodeFrame (kind, call, body = NOTHING) {
  return concat(u32(COUNTED_BYTES + body.length), Uint8Array.of(kind), u64(call), body)
}

// The JSON at the beginning of a REQUEST or RESULT, behind its size.
export function encodeHead (head) {
  const json = toJson(head)
  return concat(u32(json.length), json)
}

// Returns the head, and what of the body is in the same frame.
export function decodeHead (body) {
  const end = 4 + readU32(body)
  return [fromJson(body.subarray(4, end)), body.subarray(end)]
}

// Cuts a stream of bytes, however it arrives, into frames.
export class FrameReader {
  #unread = NOTHING
  #maxBody

  constructor (maxBody) {
    this.#maxBody = maxBody
  }

  // Yields {kind, call, body} for each frame that `bytes` completes.
  * push (bytes) {
    this.#unread = this.#unread.length > 0 ? concat(this.#unread, bytes) : bytes
    while (this.#unread.length >= HEADER_BYTES) {
      const header = view(this.#unread)
      const end = 4 + header.getUint32(0)
      if (end < HEADER_BYTES || end > HEADER_BYTES + this.#maxBody) {
        throw new Error(`a frame of ${end} bytes; the limit is ${HEADER_BYTES + this.#maxBody}`)
      }
      if (this.#unread.length < end) {
        return
      }
      const body = this.#unread.subarray(HEADER_BYTES, end)
      yield { kind: header.getUint8(4), call: Number(header.getBigUint64(5)), body }
      this.#unread = this.#unread.subarray(end)
    }
  }
}

function view (bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
