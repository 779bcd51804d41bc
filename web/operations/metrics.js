/** The metrics of the services as the page reads them, and the alerts whose conditions hold now. */

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

/** The samples of a metric with these labels. @param {Reading | undefined} reading @param {string} name @param {Record<string, string>} [labels] */
function samples(reading, name, labels = {}) {
  const wanted = Object.entries(labels)
  return (reading?.get(name) ?? []).filter((sample) => wanted.every(([label, value]) => sample.labels[label] === value))
}

/** Their sum; null where the service has none. @param {Reading | undefined} reading @param {string} name @param {Record<string, string>} [labels] */
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
 * monitoring/prometheus/rules/alerts.yml, with which scripts/check-console compares them. The others need a history.
 * @type {[alert: string, metric: string, labels: Record<string, string>, above: number, holds: string][]}
 */
export const ALERTS = [
  ['OutboxOld', 'outbox_oldest_seconds', {}, 30, '2m'],
  ['ConsumerLag', 'events_consumer_lag_records', {}, 1000, '10m'],
  ['ResignationUnfinished', 'auth_resignation_oldest_seconds', {}, 3600, '10m'],
  ['AuthHeartbeatsMissing', 'access_heartbeat_age_seconds', {}, 30, '5m'],
  ['SocketsNearLimit', 'sosohappy_sockets_open', {}, 16000, '5m'],
  ['PushCredentialBroken', 'notice_push_credential_broken', {}, 0, '2m'],
  ['SettingsLate', 'config_instances', { standing: 'late' }, 0, '5m'],
  ['SettingsRefused', 'config_instances', { standing: 'refusing' }, 0, '1m'],
  ['CanaryStuck', 'config_canary_running', {}, 0, '1h'],
  ['SettingsWaitForRestart', 'settings_needing_restart', {}, 0, '1h'],
]

/** Counters of which any increase is an alert. */
export const COUNTED = [
  ['DeadLetters', 'events_dead_letters_total'],
  ['OutboxRefused', 'outbox_refused_total'],
  ['OutboxQuarantined', 'outbox_quarantined_total'],
  ['ScheduledMessagesQuarantined', 'dm_scheduled_messages_quarantined_total'],
]

/** Without a value the service does not answer. @typedef {{ alert: string, service: string, value: number | null, holds: string }} Firing */

/**
 * Returns the alerts whose conditions hold in the newest readings.
 * @param {Map<string, { first: Reading, now: Reading | null }>} services
 * @returns {Firing[]}
 */
export function firing(services) {
  /** @type {Firing[]} */
  const found = []
  for (const [service, { first, now }] of services) {
    const add = (/** @type {string} */ alert, /** @type {number | null} */ value, holds = '') => found.push({ alert, service, value, holds })
    if (now === null) {
      add('ServiceDown', null, '1m')
      continue
    }
    for (const [alert, metric, labels, above, holds] of ALERTS) {
      const value = Math.max(...samples(now, metric, labels).map((sample) => sample.value))
      if (value > above) add(alert, value, holds)
    }
    for (const [alert, metric] of COUNTED) {
      const increase = (sum(now, metric) ?? 0) - (sum(first, metric) ?? 0)
      if (increase > 0) add(alert, increase)
    }
    if (sum(now, 'outbox_relay_leading') === 0) add('RelayMissing', 0, '2m')
  }
  return found
}
