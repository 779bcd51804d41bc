/** What the page of operators knows of the fleet: read every two seconds while it is open. */

import { Store } from '../store.js'
import { SERVICES, json, text } from './api.js'
import { History, conditions, parse, requests, sum } from './metrics.js'

/** @typedef {import('./metrics.js').Reading} Reading */

const PERIOD = 2_000
/** Points of a plot: ten minutes. */
const KEPT = 300
/** Lists change rarely: they are read every fifth time. */
const LISTS = 5

/** @typedef {{ now: Reading | null, at: number, rate: (number | null)[], p95: (number | null)[] }} Service */

export class Fleet extends Store {
  constructor() {
    super()
    /** @type {Map<string, Service>} */
    this.services = new Map()
    this.history = new History()
    /** @type {import('./metrics.js').Firing[]} */
    this.alerts = []
    /** Times of the plots, in seconds. @type {number[]} */
    this.times = []
    /** @type {any} */
    this.settings = null
    /** @type {any[]} */
    this.flags = []
    /** @type {{ count: number, content: any[] }} */
    this.resignations = { count: 0, content: [] }
    /** @type {{ count: number, content: any[] }} */
    this.letters = { count: 0, content: [] }
    /** The newest report of `fleet demo --people`. @type {any} */
    this.crowd = null
    /** The error of the newest reading. */
    this.failure = ''
    this.turn = 0
    /** @type {number | undefined} */
    this.timer = undefined
  }

  /** Reads until the returned function is called. */
  watch() {
    let watched = true
    const again = async () => {
      await this.read()
      if (watched) this.timer = setTimeout(again, PERIOD)
    }
    again()
    return () => {
      watched = false
      clearTimeout(this.timer)
    }
  }

  /** Reads everything once. */
  async read() {
    this.times = [...this.times, Date.now() / 1000].slice(-KEPT)
    const lists = this.turn % LISTS === 0 ? [this.readLists()] : []
    this.turn += 1
    const results = await Promise.allSettled([...SERVICES.map((service) => this.readService(service)), this.readSettings(), this.readCrowd(), ...lists])
    const at = Date.now()
    this.alerts = this.history.hold(conditions(this.services, this.history, at), at)
    this.failure = results.flatMap((result) => (result.status === 'rejected' ? [result.reason.message] : []))[0] ?? ''
    this.changed()
  }

  /** @param {string} name */
  async readService(name) {
    const before = this.services.get(name)
    let now = null
    try {
      now = parse(await text(`${name}/actuator/prometheus`))
      this.history.add(name, now, Date.now())
    } finally {
      const at = performance.now()
      const measured = before?.now && now ? requests(before.now, now, (at - before.at) / 1000) : { rate: null, p95: null }
      this.services.set(name, {
        now,
        at,
        rate: [...(before?.rate ?? []), measured.rate].slice(-KEPT),
        p95: [...(before?.p95 ?? []), measured.p95].slice(-KEPT),
      })
    }
  }

  async readSettings() {
    this.settings = await json('config-service/config-service/convergence')
  }

  async readCrowd() {
    this.crowd = await json('crowd')
  }

  async readLists() {
    const [flags, resignations, letters] = await Promise.all([
      json('config-service/config-service/flags'),
      json('auth-service/auth-service/pendingResignations'),
      json('dead-letters'),
    ])
    Object.assign(this, { flags, resignations, letters })
  }

  /** Changes something, and reads what it has changed. @param {string} path @param {string} method @param {any} [body] */
  async change(path, method, body) {
    await json(path, method, body)
    await Promise.all([this.readSettings(), this.readLists()])
    this.changed()
  }

  /** Resolves dead letters. @param {string[]} ids @param {'replayed' | 'discarded'} resolution */
  resolve(ids, resolution) {
    return this.change('dead-letters', 'POST', { ids, resolution })
  }

  /** The sum of a metric of a service; null where it has none. @param {string} service @param {string} metric @param {Record<string, string>} [labels] */
  sum(service, metric, labels) {
    return sum(this.services.get(service)?.now ?? undefined, metric, labels)
  }
}
