/** The requests and frames between the phones and the services, one row each, newest first. */

import { Store } from './store.js'

const KEPT = 200

/**
 * @typedef {object} Row
 * @property {number} id
 * @property {Date} at
 * @property {number} phone the number of the phone
 * @property {'request' | 'sent' | 'received' | 'opened' | 'closed'} kind
 * @property {string} method GET, POST or WS
 * @property {string} path without query
 * @property {number} [status] HTTP status, or the code a socket was closed with
 * @property {number} [ms] from the request to its response
 * @property {string} [requestId] by which the services' logs and spans are found: of a frame its trace id
 * @property {string} [text] content of a frame
 * @property {number} [tap] milliseconds from the tap on another phone to this frame
 * @property {string} [key] what names the frame that this request causes, or this frame
 */

class Wire extends Store {
  constructor() {
    super()
    /** @type {Row[]} */
    this.rows = []
    /** The newest time from a tap to the frame it caused, in milliseconds. @type {{ like: number | null, message: number | null }} */
    this.journeys = { like: null, message: null }
    this.count = 0
    /** Start times of taps whose frame has not arrived. @type {Map<string, number>} */
    this.taps = new Map()
    /** The newest tap, until its request is sent. @type {string | undefined} */
    this.tapping = undefined
    /** The request whose trace is open. @type {Row | null} */
    this.traced = null
    /** Whether the trace of each new tap opens by itself: an operator has given the token. */
    this.follows = false
  }

  /** Adds a row. @param {Omit<Row, 'id' | 'at'>} row */
  add(row) {
    this.count += 1
    const added = { id: this.count, at: new Date(), ...row }
    this.rows = [added, ...this.rows].slice(0, KEPT)
    if (this.follows && added.key && added.requestId) this.traced = added
    this.changed()
  }

  clear() {
    this.rows = []
    this.changed()
  }

  /** Starts the clock of a tap; the key names the frame that it will cause. @param {string} key */
  tapped(key) {
    this.taps.set(key, performance.now())
    this.tapping = key
  }

  /** Opens the trace of a request; closes it without one. @param {Row | null} row */
  trace(row) {
    this.traced = row
    this.changed()
  }

  /** Returns the tap whose request is sent now. */
  takeTap() {
    const key = this.tapping
    this.tapping = undefined
    return key
  }

  /**
   * Ends the clock of a tap when its frame arrives.
   * @param {'like' | 'message'} kind
   * @param {string} key
   * @returns {number | undefined} milliseconds since the tap
   */
  arrived(kind, key) {
    const began = this.taps.get(key)
    if (began === undefined) return undefined
    this.taps.delete(key)
    const ms = performance.now() - began
    this.journeys[kind] = ms
    return ms
  }
}

export const wire = new Wire()

/** Returns the key of a like's frame. @param {string} liker @param {number} date */
export const likeKey = (liker, date) => `like ${liker} ${date}`
/** Returns the key of a message's frame. @param {{ sender: string, date: number }} message */
export const messageKey = (message) => `message ${message.sender} ${message.date}`
