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
  read(text, duration = 0) {
    const end = this.at + duration
    let alerts
    do {
      this.at += 2 * SECOND
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
  assert.deepEqual(page.read(requests(50, 150)), [['AvailabilityFastBurn', 0.25, false]])
  assert.deepEqual(page.read(requests(50, 150), 3 * MINUTE), [['AvailabilityFastBurn', 0.25, true]])
  assert.deepEqual(page.read(requests(50, 150), 5 * MINUTE), [], 'no error in five minutes')
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
  for (const { points } of page.history.counters.values()) assert.ok(points.length <= 362, `${points.length} points`)
})
