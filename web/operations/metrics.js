/** The metrics of the services as the page reads them, their history while it is open, and the alerts whose conditions hold. */

/** @typedef {{ labels: Record<string, string>, value: number }} Sample */
/** One reading of a service: samples by metric. @typedef {Map<string, Sample[]>} Reading */

const LINE = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g

/** Parses the text format of Prometheus. @param {string} text @returns {Reading} */
export function parse(text) {
  /** @type {Reading} */
  const reading = new Map()
  for (const line of text.split('\n')) {
    const [, name, labels, value] = LINE.exec(line) ?? []
    if (!name) continue
    if (!reading.has(name)) reading.set(name, [])
    const sample = { labels: Object.fromEntries(Array.from((labels ?? '').matchAll(LABEL), (match) => [match[1], match[2]])), value: Number(value) }
    reading.get(name)?.push(sample)
  }
  return reading
}

/** Labels that a sample must have, each with an expression for all of its value, as in a query. @typedef {Record<string, string>} Labels */

/** The samples of a metric with these labels. @param {Reading | undefined} reading @param {string} name @param {Labels} [labels] */
function samples(reading, name, labels = {}) {
  const wanted = Object.entries(labels).map(([label, value]) => /** @type {const} */ ([label, new RegExp(`^(?:${value})$`)]))
  return (reading?.get(name) ?? []).filter((sample) => wanted.every(([label, value]) => value.test(sample.labels[label] ?? '')))
}

/** Their sum; null where the service has none. @param {Reading | undefined} reading @param {string} name @param {Labels} [labels] */
export function sum(reading, name, labels) {
  const found = samples(reading, name, labels)
  return found.length === 0 ? null : found.reduce((total, sample) => total + sample.value, 0)
}

/** Requests that the page, probes and scrapes did not make. @param {Sample} sample */
const isCall = (sample) => !/^\/actuator|^\/config-service|^\/ofrep/.test(sample.labels.uri ?? '')

/**
 * The rate of requests between two readings, and their 95th percentile in milliseconds; null without a request.
 * @param {Reading} before @param {Reading} now @param {number} seconds
 */
export function requests(before, now, seconds) {
  const name = 'http_server_requests_seconds_bucket'
  /** Requests by upper bound in seconds. @type {Map<number, number>} */
  const buckets = new Map()
  for (const [reading, sign] of /** @type {[Reading, number][]} */ ([[now, 1], [before, -1]])) {
    for (const { labels, value } of samples(reading, name).filter(isCall)) {
      const bound = labels.le === '+Inf' ? Infinity : Number(labels.le)
      buckets.set(bound, (buckets.get(bound) ?? 0) + sign * value)
    }
  }
  const count = Math.max(0, buckets.get(Infinity) ?? 0)
  const bounds = [...buckets.keys()].sort((one, other) => one - other)
  const bound = bounds.find((one) => (buckets.get(one) ?? 0) >= 0.95 * count)
  return { rate: count / seconds, p95: count === 0 || bound === undefined ? null : 1000 * (bound === Infinity ? bounds[bounds.length - 2] : bound) }
}

/**
 * Conditions of alerts that compare a present value, each with its bound and how long it has to hold: as in
 * monitoring/prometheus/rules/alerts.yml, with which scripts/check-console compares all tables of this file.
 * @type {[alert: string, metric: string, labels: Labels, above: number, holds: string][]}
 */
export const ALERTS = [
  ['OutboxOld', 'outbox_oldest_seconds', {}, 30, '2m'],
  ['ConsumerLag', 'events_consumer_lag_records', {}, 1000, '10m'],
  ['ConsumersOutOfGroup', 'events_consumer_groups_missing', {}, 0, '2m'],
  ['ClockSkewed', 'database_clock_difference_seconds', {}, 5, '2m'],
  ['ResignationUnfinished', 'auth_resignation_oldest_seconds', {}, 3600, '10m'],
  ['ReportsLate', 'auth_reports_late', {}, 0, '10m'],
  ['HeldTextsLate', 'feed_held_late', {}, 0, '10m'],
  ['AuthHeartbeatsMissing', 'access_heartbeat_age_seconds', {}, 30, '5m'],
  ['SocketsNearLimit', 'sosohappy_sockets_open', {}, 16000, '5m'],
  ['PushQueueOld', 'notice_push_overdue_seconds', {}, 120, '5m'],
  ['PushCredentialBroken', 'notice_push_credential_broken', {}, 0, '2m'],
  ['SettingsLate', 'config_instances', { standing: 'late' }, 0, '5m'],
  ['SettingsRefused', 'config_instances', { standing: 'refusing' }, 0, '1m'],
  ['CanaryStuck', 'config_canary_running', {}, 0, '1h'],
  ['SettingsWaitForRestart', 'settings_needing_restart', {}, 0, '1h'],
]

/**
 * Conditions of alerts that compare how much a counter has increased within a time.
 * @type {[alert: string, metric: string, labels: Labels, within: string, above: number, holds: string][]}
 */
export const INCREASES = [
  ['DeadLetters', 'events_dead_letters_total', {}, '30m', 0, ''],
  ['NewerEventVersion', 'events_consumed_total', { outcome: 'newer-version' }, '5m', 0, '5m'],
  ['OutboxRefused', 'outbox_refused_total', {}, '30m', 0, ''],
  ['OutboxQuarantined', 'outbox_quarantined_total', {}, '30m', 0, ''],
  ['ScheduledMessagesQuarantined', 'dm_scheduled_messages_quarantined_total', {}, '30m', 0, ''],
  ['CorruptData', 'events_consumed_total', { outcome: 'corrupt' }, '30m', 0, ''],
  ['CorruptData', 'http_server_requests_seconds_count', { status: '500' }, '30m', 0, ''],
  ['ErrorsLogged', 'logback_events_total', { level: 'error' }, '15m', 20, '5m'],
  ['BackgroundTaskFails', 'auth_task_failures_total', {}, '15m', 3, '15m'],
  ['ServiceCredentialRefused', 'http_server_requests_seconds_count', { status: '401', uri: '/auth-service/(introspect|lookup)|/config-service/.*' }, '10m', 5, '5m'],
  ['CredentialStuffing', 'auth_sign_ins_slowed_total', {}, '10m', 20, '5m'],
  ['RefreshTokenReused', 'auth_reissues_total', { outcome: 'reused' }, '1h', 10, ''],
  ['PushTokensForeign', 'notice_push_tokens_dropped_total', { reason: 'foreign' }, '1h', 0, ''],
  ['CanaryRolledBack', 'config_canaries_total', { outcome: 'rolled-back' }, '15m', 0, ''],
]

/**
 * Conditions of alerts that compare the increase of a counter a second.
 * @type {[alert: string, metric: string, labels: Labels, within: string, above: number, holds: string][]}
 */
export const RATES = [
  ['AuthUnreachable', 'access_introspections_total', { outcome: 'unavailable' }, '5m', 0.1, '5m'],
  ['AuthUnreachable', 'access_auth_calls_rejected_total', {}, '5m', 0.1, '5m'],
]

/**
 * Conditions of alerts that compare the part of a counter's increases with some labels, within each of these times. Of the last one the part is over
 * `parts`, and the whole over `wholes`.
 * @type {[alert: string, metric: string, labels: Labels, within: string[], above: number, parts: number, wholes: number, holds: string][]}
 */
export const RATIOS = [
  ['AvailabilityFastBurn', 'http_server_requests_seconds_count', { outcome: 'SERVER_ERROR' }, ['5m', '1h'], 0.0144, 10, 0, '2m'],
  ['AvailabilityFastBurn', 'http_server_requests_seconds_count', { outcome: 'SERVER_ERROR' }, ['30m', '6h'], 0.006, 10, 0, '2m'],
  ['AvailabilitySlowBurn', 'http_server_requests_seconds_count', { outcome: 'SERVER_ERROR' }, ['2h', '1d'], 0.003, 10, 0, '15m'],
  ['AvailabilitySlowBurn', 'http_server_requests_seconds_count', { outcome: 'SERVER_ERROR' }, ['6h', '3d'], 0.001, 10, 0, '15m'],
  ['SignInsRefused', 'auth_sign_ins_total', { outcome: 'refused|limited' }, ['15m'], 0.5, 0, 20, '10m'],
  ['SlowReadersCut', 'sosohappy_sockets_closed_total', { reason: 'too-slow' }, ['10m'], 0.2, 20, 0, '10m'],
  ['PushesLost', 'notice_pushes_total', { outcome: 'refused|given-up' }, ['1h'], 0.05, 0, 50, '15m'],
]

/**
 * Conditions of alerts that compare the share of a histogram's observations that took longer than a second, within each of these times. Of the last
 * one there are more than `wholes` observations.
 * @type {[alert: string, histogram: string, labels: Labels, within: string[], above: number, wholes: number, holds: string][]}
 */
export const LATE = [
  ['DmDeliveryFastBurn', 'dm_delivery_seconds', {}, ['5m', '1h'], 0.144, 100, '2m'],
  ['DmDeliveryFastBurn', 'dm_delivery_seconds', {}, ['30m', '6h'], 0.06, 100, '2m'],
  ['DmDeliverySlowBurn', 'dm_delivery_seconds', {}, ['2h', '1d'], 0.03, 100, '15m'],
  ['DmDeliverySlowBurn', 'dm_delivery_seconds', {}, ['6h', '3d'], 0.01, 100, '15m'],
  ['LikeNoticeFastBurn', 'notice_delivery_seconds', { hop: 'written' }, ['5m', '1h'], 0.144, 100, '2m'],
  ['LikeNoticeFastBurn', 'notice_delivery_seconds', { hop: 'written' }, ['30m', '6h'], 0.06, 100, '2m'],
  ['LikeNoticeSlowBurn', 'notice_delivery_seconds', { hop: 'written' }, ['2h', '1d'], 0.03, 100, '15m'],
  ['LikeNoticeSlowBurn', 'notice_delivery_seconds', { hop: 'written' }, ['6h', '3d'], 0.01, 100, '15m'],
]

/**
 * Conditions of alerts that compare a quantile of a histogram with a second, while there are more than `rate` observations a second.
 * @type {[alert: string, histogram: string, labels: Labels, within: string, quantile: number, rate: number, holds: string][]}
 */
export const QUANTILES = [['SlowAnswers', 'http_server_requests_seconds', {}, '5m', 0.99, 0.2, '15m']]

/**
 * Conditions of alerts that compare the increase of a counter with that of another one, which increases by more than `rate` a second.
 * @type {[alert: string, part: string, whole: string, within: string, above: number, rate: number, holds: string][]}
 */
export const QUOTIENTS = [['RequestsRateLimited', 'http_rate_limited_requests_total', 'http_server_requests_seconds_count', '5m', 0.1, 1, '10m']]

/**
 * Conditions of alerts that compare the lowest value within a time.
 * @type {[alert: string, metric: string, within: string, above: number, holds: string][]}
 */
export const MINIMA = [['DatabasePoolFull', 'hikaricp_connections_pending', '5m', 0, '5m']]

/**
 * Conditions of alerts that compare a present value with a limit; none holds where the limit is 0.
 * @type {[alert: string, metric: string, limit: string, above: number, holds: string][]}
 */
export const SHARES = [
  ['FilesRunOut', 'process_files_open_files', 'process_files_max_files', 0.8, '5m'],
  ['MemoryNearLimit', 'process_resident_memory_bytes', 'server_memory_limit_bytes', 0.9, '2m'],
]

/**
 * Conditions of alerts that compare how often a value has changed within a time.
 * @type {[alert: string, metric: string, within: string, least: number][]}
 */
export const CHANGES = [['ReplicaRestarts', 'process_start_time_seconds', '30m', 3]]

/**
 * Alerts that the metrics of the services cannot decide, with the reason: `targets` are known to Prometheus only, `certificates` to the cluster.
 * @type {[alert: string, reason: 'targets' | 'certificates'][]}
 */
export const NOT_EVALUATED = [
  ['ServiceAbsent', 'targets'],
  ['ReplicaDown', 'targets'],
  ['CertificateExpires', 'certificates'],
]

const UNITS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }
/** Milliseconds between two points of a counter, and how long points are kept: close ones for short times, distant ones up to the longest of a condition. */
const SERIES = [
  { spacing: 10_000, kept: UNITS.h },
  { spacing: 5 * UNITS.m, kept: 3 * UNITS.d },
]
/** Ended alerts that are kept. */
const MOST_ENDED = 20

/** Milliseconds of `90s`, `5m`, `1h` or `3d`; 0 of an empty text. @param {string} text */
const millis = (text) => (text ? Number.parseInt(text, 10) * UNITS[/** @type {keyof typeof UNITS} */ (text.at(-1))] : 0)

/**
 * A counter of a service: its newest value, its increases since it was first read, and points of these by `SERIES`.
 * @typedef {{ value: number, total: number, series: [at: number, total: number][][] }} Counter
 */
/** @typedef {{ alert: string, service: string, since: number, until: number }} Ended times in milliseconds */
/** Without a value the service does not answer. @typedef {{ alert: string, service: string, value: number | null, holds: string }} Condition */
/** A condition, since when it holds, and whether it has held for long enough. @typedef {Condition & { since: number, fires: boolean }} Firing */

/** What the page has read while it was open: increases of counters, and since when conditions hold. */
export class History {
  constructor() {
    /** @type {Map<string, Counter>} */
    this.counters = new Map()
    /** @type {Set<string>} */
    this.services = new Set()
    /** @type {Map<string, Firing>} */
    this.holding = new Map()
    /** Alerts that fired and do no longer, newest first. @type {Ended[]} */
    this.ended = []
  }

  /** Adds a reading. @param {string} service @param {Reading} reading @param {number} at milliseconds */
  add(service, reading, at) {
    for (const [metric, labels] of COUNTED) this.count(service, reading, at, metric, labels)
    for (const [, metric] of CHANGES) this.countChanges(service, reading, at, metric)
    this.services.add(service)
  }

  /** @param {string} service @param {Reading} reading @param {number} at @param {string} metric @param {Labels} labels */
  count(service, reading, at, metric, labels) {
    const found = samples(reading, metric, labels).filter((sample) => !sample.labels.uri?.startsWith('/actuator'))
    if (found.length === 0) return
    const value = found.reduce((total, sample) => total + sample.value, 0)
    const key = keyOf(service, metric, labels)
    let counter = this.counters.get(key)
    if (!counter) {
      // A series that appears later begins at 0; one that is there from the start has an unknown past.
      const known = this.services.has(service) ? 0 : value
      counter = counterAt(at, known)
      this.counters.set(key, counter)
    }
    // A lower value is that of a restarted process.
    this.raise(counter, value >= counter.value ? value - counter.value : value, value, at)
  }

  /** Counts the changes of a value that is not a counter. @param {string} service @param {Reading} reading @param {number} at @param {string} metric */
  countChanges(service, reading, at, metric) {
    const value = sum(reading, metric)
    if (value === null) return
    const key = keyOf(service, metric, {})
    const counter = this.counters.get(key) ?? counterAt(at, value)
    this.counters.set(key, counter)
    this.raise(counter, Number(value !== counter.value), value, at)
  }

  /** @param {Counter} counter @param {number} by @param {number} value @param {number} at */
  raise(counter, by, value, at) {
    counter.total += by
    counter.value = value
    for (const [index, { spacing, kept }] of SERIES.entries()) {
      const points = counter.series[index]
      if (at - points[points.length - 1][0] >= spacing) points.push([at, counter.total])
      while (points.length > 1 && points[1][0] <= at - kept) points.shift()
    }
  }

  /**
   * Returns the increase of a counter within a time, as far as it was read; 0 for one that was not.
   * @param {string} service @param {string} metric @param {Labels} labels @param {string} within @param {number} at
   */
  increase(service, metric, labels, within, at) {
    const counter = this.counters.get(keyOf(service, metric, labels))
    if (!counter) return 0
    const begin = at - millis(within)
    const points = counter.series[SERIES.findIndex(({ kept }) => kept >= millis(within))]
    const before = points.findLast(([time]) => time <= begin) ?? points[0]
    return counter.total - before[1]
  }

  /** Notes since when conditions hold; returns them, those that fire first. @param {Condition[]} conditions @param {number} at @returns {Firing[]} */
  hold(conditions, at) {
    /** @type {Map<string, Firing>} */
    const holding = new Map()
    for (const condition of conditions) {
      const key = `${condition.alert} ${condition.service}`
      const since = this.holding.get(key)?.since ?? at
      holding.set(key, { ...condition, since, fires: at - since >= millis(condition.holds) })
    }
    for (const [key, { alert, service, since, fires }] of this.holding) {
      if (fires && !holding.has(key)) this.ended = [{ alert, service, since, until: at }, ...this.ended].slice(0, MOST_ENDED)
    }
    this.holding = holding
    return [...holding.values()].sort((one, other) => Number(other.fires) - Number(one.fires))
  }
}

/** @param {number} at @param {number} value @returns {Counter} */
const counterAt = (at, value) => ({ value, total: 0, series: SERIES.map(() => [[at, 0]]) })

/** @param {string} service @param {string} metric @param {Labels} labels */
const keyOf = (service, metric, labels) => JSON.stringify([service, metric, labels])

/** The counters of a histogram: all observations, and those of at most a second. @param {string} histogram @param {Labels} labels @returns {[string, Labels][]} */
const countersOf = (histogram, labels) => [
  [`${histogram}_count`, labels],
  [`${histogram}_bucket`, { ...labels, le: '1' }],
]

/** The counters that conditions compare, each once. @type {[metric: string, labels: Labels][]} */
const COUNTED = unique([
  ...[...INCREASES, ...RATES].map(([, metric, labels]) => pair(metric, labels)),
  ...RATIOS.flatMap(([, metric, labels]) => [pair(metric, labels), pair(metric, {})]),
  ...[...LATE, ...QUANTILES].flatMap(([, histogram, labels]) => countersOf(histogram, labels)),
  ...QUOTIENTS.flatMap(([, part, whole]) => [pair(part, {}), pair(whole, {})]),
])

/** @param {string} metric @param {Labels} labels @returns {[string, Labels]} */
function pair(metric, labels) {
  return [metric, labels]
}

/** @param {[string, Labels][]} counters @returns {[string, Labels][]} */
function unique(counters) {
  return Array.from(new Map(counters.map((counter) => [JSON.stringify(counter), counter])).values())
}

/** The conditions about increases, of one service, that hold now. @param {string} service @param {History} history @param {number} at @returns {Condition[]} */
function increases(service, history, at) {
  /** @type {Condition[]} */
  const found = []
  const add = (/** @type {string} */ alert, /** @type {number} */ value, holds = '') => found.push({ alert, service, value, holds })
  const increase = (/** @type {string} */ metric, /** @type {Labels} */ labels, /** @type {string} */ within) => history.increase(service, metric, labels, within, at)
  /** All and late observations. @param {string} histogram @param {Labels} labels @param {string} within */
  const late = (histogram, labels, within) => {
    const counters = countersOf(histogram, labels)
    if (!counters.every(([metric, wanted]) => history.counters.has(keyOf(service, metric, wanted)))) return [0, 0]
    const [all, inTime] = counters.map(([metric, wanted]) => increase(metric, wanted, within))
    return [all - inTime, all]
  }
  const seconds = (/** @type {string} */ within) => millis(within) / 1_000
  for (const [alert, metric, labels, within, above, holds] of INCREASES) {
    const value = increase(metric, labels, within)
    if (value > above) add(alert, value, holds)
  }
  for (const [alert, metric, labels, within, above, holds] of RATES) {
    const rate = increase(metric, labels, within) / seconds(within)
    if (rate > above) add(alert, rate, holds)
  }
  for (const [alert, metric, labels, times, above, parts, wholes, holds] of RATIOS) {
    const each = times.map((within) => [increase(metric, labels, within), increase(metric, {}, within)])
    const [part, whole] = each[each.length - 1]
    if (part > parts && whole > wholes && each.every(([some, all]) => some > above * all)) add(alert, part / whole, holds)
  }
  for (const [alert, histogram, labels, times, above, wholes, holds] of LATE) {
    const each = times.map((within) => late(histogram, labels, within))
    const [part, whole] = each[each.length - 1]
    if (whole > wholes && each.every(([some, all]) => some > above * all)) add(alert, part / whole, holds)
  }
  for (const [alert, histogram, labels, within, quantile, rate, holds] of QUANTILES) {
    const [part, whole] = late(histogram, labels, within)
    // The quantile is above a second when a larger share than the rest took longer.
    if (whole > rate * seconds(within) && part > (1 - quantile) * whole) add(alert, part / whole, holds)
  }
  for (const [alert, part, whole, within, above, rate, holds] of QUOTIENTS) {
    const [some, all] = [increase(part, {}, within), increase(whole, {}, within)]
    if (all > rate * seconds(within) && some > above * all) add(alert, some / all, holds)
  }
  for (const [alert, metric, within, least] of CHANGES) {
    const changes = increase(metric, {}, within)
    if (changes >= least) add(alert, changes)
  }
  return found
}

/**
 * Returns the conditions that hold now.
 * @param {Map<string, { now: Reading | null }>} services
 * @param {History} history
 * @param {number} at milliseconds
 * @returns {Condition[]}
 */
export function conditions(services, history, at) {
  /** @type {Condition[]} */
  const found = []
  for (const [service, { now }] of services) {
    const add = (/** @type {string} */ alert, /** @type {number | null} */ value, holds = '') => found.push({ alert, service, value, holds })
    if (now === null) {
      add('ServiceDown', null, '1m')
      continue
    }
    for (const [alert, metric, labels, above, holds] of ALERTS) {
      const value = Math.max(...samples(now, metric, labels).map((sample) => sample.value))
      if (value > above) add(alert, value, holds)
    }
    for (const [alert, metric, within, above, holds] of MINIMA) {
      const value = Math.max(...samples(now, metric).map((sample) => sample.value))
      // The lowest value of a time is above the bound when all values have been.
      if (value > above) add(alert, value, `${(millis(within) + millis(holds)) / UNITS.m}m`)
    }
    for (const [alert, metric, limit, above, holds] of SHARES) {
      const [value, most] = [sum(now, metric), sum(now, limit)]
      if (value !== null && most && value > above * most) add(alert, value / most, holds)
    }
    found.push(...increases(service, history, at))
    if (sum(now, 'outbox_relay_leading') === 0) add('RelayMissing', 0, '2m')
  }
  return found
}
