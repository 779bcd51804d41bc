/** A socket to dm or notice, with frames of version 2, that reconnects. */

import { parse } from './json.js'
import { wire } from './wire.js'

const FIRST_PAUSE = 300
const LONGEST_PAUSE = 10_000
/** The subprotocol by which a page signs in: a browser cannot set the headers of a handshake. */
const SUBPROTOCOL = 'sosohappy'

/** @param {string} text */
function base64url(text) {
  const bytes = String.fromCharCode(...new TextEncoder().encode(text))
  return btoa(bytes).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
}

/** Stays connected until it is closed here. */
export class Socket {
  /**
   * @param {import('./api.js').Api} api whose credentials it signs in with
   * @param {string} path
   * @param {string} nickname
   * @param {(frame: any) => { tap?: number, key?: string } | undefined} receive handles a frame; returns what caused it, see `Row`
   * @param {(online: boolean) => void} report called when it opens and closes
   */
  constructor(api, path, nickname, receive, report) {
    this.api = api
    this.path = path
    this.nickname = nickname
    this.receive = receive
    this.report = report
    this.pause = FIRST_PAUSE
    this.ended = false
    /** The highest number of a frame that was shown. */
    this.seen = 0
    /** @type {WebSocket | null} */
    this.socket = null
    /** @type {number | undefined} */
    this.timer = undefined
    this.connect()
  }

  connect() {
    const tokens = this.api.tokens
    if (this.ended || !tokens) return
    const url = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${this.path}?${new URLSearchParams({ nickname: this.nickname, v: '2', ...(this.seen > 0 && { since: String(this.seen) }) })}`
    const bearer = tokens.access.replace(/^Bearer /, '')
    const socket = new WebSocket(url, [SUBPROTOCOL, `bearer.${base64url(bearer)}`, `email.${base64url(tokens.account)}`])
    const row = { phone: this.api.phone, method: 'WS', path: this.path }
    let opened = false
    this.socket = socket
    socket.onopen = () => {
      opened = true
      this.pause = FIRST_PAUSE
      wire.add({ ...row, kind: 'opened', status: 101 })
      this.report(true)
    }
    socket.onmessage = (event) => {
      const text = String(event.data)
      const frame = parse(text)
      wire.add({ ...row, kind: 'received', text, ...this.receive(frame) })
      if (frame.seq > this.seen) {
        this.seen = frame.seq
        this.send({ topic: 'ack', seq: frame.seq })
      }
    }
    socket.onclose = async (event) => {
      if (opened) wire.add({ ...row, kind: 'closed', status: event.code })
      this.report(false)
      if (this.ended) return
      // The status of a refused handshake is hidden from pages. It can be an expired token: renew it before the next try.
      if (!opened && !(await this.api.renew().catch(() => true))) return
      if (this.ended) return
      this.timer = window.setTimeout(() => this.connect(), this.pause)
      this.pause = Math.min(this.pause * 2, LONGEST_PAUSE)
    }
  }

  /** Sends a frame. Returns false when the socket is not open. @param {any} frame */
  send(frame) {
    const key = wire.takeTap()
    if (this.socket?.readyState !== WebSocket.OPEN) return false
    const text = JSON.stringify(frame)
    // The trace that the frame begins is found by its id, as that of a request by the request id.
    const requestId = frame.traceparent?.split('-')[1]
    wire.add({ phone: this.api.phone, method: 'WS', path: this.path, kind: 'sent', text, key, requestId })
    this.socket.send(text)
    return true
  }

  close() {
    this.ended = true
    window.clearTimeout(this.timer)
    this.socket?.close(1000)
  }
}
