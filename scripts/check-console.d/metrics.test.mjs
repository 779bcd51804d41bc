/** Tests of web/operations/metrics.js: node --test scripts/check-console.d/metrics.test.mjs */

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'

// As a module by its text: its folder says nothing about modules to node.
const source = await readFile(new URL('../../web/operations/metrics.js', import.meta.url), 'utf8')
const { History, conditions, parse } = await import(`data:text/javascript,${encodeURIComponent(source)}`)

const SECOND = 1_000
const MINUTE = 60 * SECOND

/** A page that reads one service every two seconds. */
class Page {
  history = new History()
  at = 0

  /** Reads this text for a while; null while the service does not answer. Returns the newest alerts. */
  read(text, duration = 0, pace = 2 * SECOND) {
    const end = this.at + duration
    let alerts
    do {
      this.at += pace
      const now = text === null ? null : parse(text)
      if (now) this.history.add('dm-service', now, this.at)
      alerts = this.history.hold(conditions(new Map([['dm-service', { now }]]), this.history, this.at), this.at)
    } while (this.at < end)
    return alerts.map(({ alert, value, fires }) => [alert, value, fires])
  }
}

test('a condition fires when it has held for its time', () => {
  const page = new Page()
  assert.deepEqual(page.read('outbox_oldest_seconds 31\n', MINUTE), [['OutboxOld', 31, false]])
  assert.deepEqual(page.read('outbox_oldest_seconds 3\n'), [])
  assert.deepEqual(page.history.ended, [], 'it did not fire')
  assert.deepEqual(page.read('outbox_oldest_seconds 31\n', MINUTE), [['OutboxOld', 31, false]], 'the time begins anew')
  assert.deepEqual(page.read('outbox_oldest_seconds 40\n', 2 * MINUTE), [['OutboxOld', 40, true]])
  page.read('outbox_oldest_seconds 0\n')
  const [ended] = page.history.ended
  assert.deepEqual([ended.alert, ended.service, ended.until], ['OutboxOld', 'dm-service', page.at])
})

test('a counter counts within its time, from the first reading on', () => {
  const page = new Page()
  const dead = (count) => `events_dead_letters_total{topic="resign"} ${count}\n`
  assert.deepEqual(page.read(dead(7), MINUTE), [], 'those before the page are past')
  assert.deepEqual(page.read(dead(9), 20 * MINUTE), [['DeadLetters', 2, true]])
  assert.deepEqual(page.read(dead(9), 15 * MINUTE), [], 'half an hour later')
  assert.equal(page.history.ended.length, 1)
  assert.deepEqual(page.read(dead(1)), [['DeadLetters', 1, true]], 'a restarted process counts from 0')
})

test('a counter that appears later begins at 0', () => {
  const page = new Page()
  page.read('process_start_time_seconds 1\n')
  assert.deepEqual(page.read('events_dead_letters_total{topic="resign"} 1\n'), [['DeadLetters', 1, true]])
})

test('errors are counted within 15 minutes', () => {
  const page = new Page()
  const errors = (count) => `logback_events_total{level="error"} ${count}\nlogback_events_total{level="warn"} 9000\n`
  page.read(errors(0), MINUTE)
  assert.deepEqual(page.read(errors(20), MINUTE), [])
  assert.deepEqual(page.read(errors(21), 4 * MINUTE), [['ErrorsLogged', 21, false]])
  assert.deepEqual(page.read(errors(21), 2 * MINUTE), [['ErrorsLogged', 21, true]])
  assert.deepEqual(page.read(errors(21), 15 * MINUTE), [])
})

test('a rate is that of five minutes', () => {
  const page = new Page()
  const lost = (count) => `access_introspections_total{outcome="unavailable"} ${count}\n`
  page.read(lost(0), MINUTE)
  assert.deepEqual(page.read(lost(30)), [], '0.1 a second')
  assert.deepEqual(page.read(lost(60), MINUTE), [['AuthUnreachable', 0.2, false]])
  assert.deepEqual(page.read(lost(60), 5 * MINUTE), [])
})

test('a ratio needs enough of both, within all its times', () => {
  const page = new Page()
  const requests = (errors, others) =>
    `http_server_requests_seconds_count{outcome="SERVER_ERROR",uri="/a"} ${errors}\nhttp_server_requests_seconds_count{outcome="SUCCESS",uri="/a"} ${others}\n` +
    'http_server_requests_seconds_count{outcome="SERVER_ERROR",uri="/actuator/health"} 5000\n'
  page.read(requests(0, 0), MINUTE)
  assert.deepEqual(page.read(requests(10, 100), MINUTE), [], 'ten errors are not enough')
  const both = (fast, slow) => [['AvailabilityFastBurn', 0.25, fast], ['AvailabilitySlowBurn', 0.25, slow]]
  assert.deepEqual(page.read(requests(50, 150)), both(false, false))
  assert.deepEqual(page.read(requests(50, 150), 3 * MINUTE), both(true, false))
  assert.deepEqual(page.read(requests(50, 150), 13 * MINUTE), both(true, true), 'no error in five minutes, but in half an hour')
  assert.deepEqual(page.read(requests(50, 150), 15 * MINUTE), [['AvailabilitySlowBurn', 0.25, true]], 'none in half an hour')
})

test('a service that does not answer is down, and is read again after it', () => {
  const page = new Page()
  page.read('outbox_relay_leading 1\n')
  assert.deepEqual(page.read(null), [['ServiceDown', null, false]])
  assert.deepEqual(page.read(null, MINUTE), [['ServiceDown', null, true]])
  assert.deepEqual(page.read('outbox_relay_leading 0\n'), [['RelayMissing', 0, false]])
})

test('memory is bounded', () => {
  const page = new Page()
  page.read('events_dead_letters_total{topic="resign"} 1\n', 180 * MINUTE)
  for (const { series } of page.history.counters.values()) {
    const [close, distant] = series.map((points) => points.length)
    assert.ok(close <= 362 && distant <= 38, `${close} and ${distant} points`)
  }
})

test('a slow burn is found in what was read within days', () => {
  const page = new Page()
  const requests = (errors, others) =>
    `http_server_requests_seconds_count{outcome="SERVER_ERROR",uri="/a"} ${errors}\nhttp_server_requests_seconds_count{outcome="SUCCESS",uri="/a"} ${others}\n`
  page.read(requests(0, 0), MINUTE)
  page.read(requests(0, 9_000), 20 * 60 * MINUTE, MINUTE)
  page.read(requests(20, 10_000), 40 * MINUTE, MINUTE)
  const slow = [['AvailabilitySlowBurn', 20 / 10_020, true]]
  assert.deepEqual(page.read(requests(20, 10_000), 4 * 60 * MINUTE, MINUTE), slow, 'within six hours and three days')
  assert.deepEqual(page.read(requests(20, 10_000), 2 * 60 * MINUTE, MINUTE), [], 'none in six hours')
})

test('deliveries are late when they take longer than a second', () => {
  const page = new Page()
  const delivered = (hop, inTime, all) =>
    `notice_delivery_seconds_bucket{hop="${hop}",le="1"} ${inTime}\nnotice_delivery_seconds_bucket{hop="${hop}",le="+Inf"} ${all}\nnotice_delivery_seconds_count{hop="${hop}"} ${all}\n`
  page.read(delivered('written', 0, 0) + delivered('stored', 0, 0), MINUTE)
  assert.deepEqual(page.read(delivered('written', 80, 100) + delivered('stored', 0, 500)), [], 'a hundred are not enough')
  const alerts = page.read(delivered('written', 80, 101) + delivered('stored', 0, 500), 3 * MINUTE)
  assert.deepEqual(alerts, [['LikeNoticeFastBurn', 21 / 101, true], ['LikeNoticeSlowBurn', 21 / 101, false]])
})

test('answers are slow when the 99th percentile is, of enough requests', () => {
  const page = new Page()
  const requests = (fast, all) =>
    `http_server_requests_seconds_bucket{uri="/a",le="1"} ${fast}\nhttp_server_requests_seconds_count{uri="/a"} ${all}\n` +
    'http_server_requests_seconds_bucket{uri="/actuator/health",le="1"} 0\nhttp_server_requests_seconds_count{uri="/actuator/health"} 9000\n'
  page.read(requests(0, 0), MINUTE)
  assert.deepEqual(page.read(requests(50, 60)), [], '0.2 a second')
  assert.deepEqual(page.read(requests(60, 61)), [['SlowAnswers', 1 / 61, false]])
  assert.deepEqual(page.read(requests(160, 161)), [], 'one of a hundred and sixty')
})

test('calls over a limit are compared with all calls', () => {
  const page = new Page()
  const calls = (limited, all) => `http_rate_limited_requests_total{limit="address"} ${limited}\nhttp_server_requests_seconds_count{uri="/a"} ${all}\n`
  page.read(calls(0, 0), MINUTE)
  assert.deepEqual(page.read(calls(200, 300)), [], 'one a second')
  assert.deepEqual(page.read(calls(200, 400)), [['RequestsRateLimited', 0.5, false]])
})

test('refused credentials are those of calls between services', () => {
  const page = new Page()
  const refused = (count) =>
    ['/auth-service/introspect', '/config-service/{name}/{profile}', '/auth-service/signIn', '/x/auth-service/lookup']
      .map((uri, index) => `http_server_requests_seconds_count{status="401",uri="${uri}"} ${count * [1, 1, 9, 9][index]}\n`)
      .join('')
  page.read(refused(0), MINUTE)
  assert.deepEqual(page.read(refused(2)), [])
  assert.deepEqual(page.read(refused(3)), [['ServiceCredentialRefused', 6, false]])
})

test('restarts are counted by the time of the start', () => {
  const page = new Page()
  const started = (at) => `process_start_time_seconds ${at}\n`
  for (const at of [100, 200, 300]) assert.deepEqual(page.read(started(at), MINUTE), [])
  assert.deepEqual(page.read(started(400)), [['ReplicaRestarts', 3, true]])
  assert.deepEqual(page.read(started(400), 30 * MINUTE), [])
})

test('memory is compared with its limit where there is one', () => {
  const page = new Page()
  const read = (resident, limit) => page.read(`process_resident_memory_bytes ${resident}\nserver_memory_limit_bytes ${limit}\n`, 2 * MINUTE)
  assert.deepEqual(read(950, 0), [])
  assert.deepEqual(read(900, 1000), [])
  assert.deepEqual(read(910, 1000), [['MemoryNearLimit', 0.91, false]])
  assert.deepEqual(read(910, 1000), [['MemoryNearLimit', 0.91, true]])
})

test('a pool is full when calls wait all the time, and files run out at a share of their limit', () => {
  const page = new Page()
  const read = (pending, open, time) =>
    page.read(`hikaricp_connections_pending{pool="a"} ${pending}\nhikaricp_connections_pending{pool="b"} 0\nprocess_files_open_files ${open}\nprocess_files_max_files 1000\n`, time)
  assert.deepEqual(read(1, 800, 9 * MINUTE), [['DatabasePoolFull', 1, false]])
  assert.deepEqual(read(1, 801, 2 * MINUTE), [['DatabasePoolFull', 1, true], ['FilesRunOut', 0.801, false]])
  assert.deepEqual(read(0, 801, 5 * MINUTE), [['FilesRunOut', 0.801, true]])
})
