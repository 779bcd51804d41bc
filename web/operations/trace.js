/**
 * One request through the services: its spans as bars on one line of time, from the tap to the frame on the other phone. Those of a tap appear
 * by themselves until its frame has arrived.
 */

import { texts } from '../i18n/index.js'
import { Failure, useLoaded } from '../phone/parts.js'
import { html, useEffect } from '../view.js'
import { wire } from '../wire.js'
import { SERVICES, isOperator, json } from './api.js'

/** Milliseconds from one load to the next, and for how long: the spans of some steps end after the frame, and a frame may not come. */
const PERIOD = 500
const AFTER_FRAME = 5_000
const WITHOUT_FRAME = 15_000

/** @typedef {{ who: string, name: string, at: number, ms: number }} Bar times in milliseconds */

/** @param {any} span @returns {Bar} */
function barOf(span) {
  const field = (/** @type {string} */ name) => span.fields.find((/** @type {string[]} */ pair) => pair[0] === name)?.[1] ?? ''
  return { who: span.service.replace('-service', ''), name: `${span.name} ${field('topic')} ${field('kind')}`, at: Date.parse(span.beganAt), ms: span.took / 1000 }
}

/** The spans of all services. @param {string} requestId @returns {Promise<Bar[]>} */
async function load(requestId) {
  const found = await Promise.all(SERVICES.map((service) => json(`${service}/actuator/traces/${requestId}`)))
  return found.flatMap(({ spans }) => spans.map(barOf))
}

/** @param {{ row: import('../wire.js').Row, frame: import('../wire.js').Row | undefined }} properties */
export function Trace({ row, frame }) {
  const t = texts().trace
  const loaded = useLoaded(() => (isOperator() ? load(row.requestId ?? '') : Promise.resolve([])), [row.id])
  const until = frame ? frame.at.getTime() + AFTER_FRAME : row.at.getTime() + WITHOUT_FRAME
  useEffect(() => {
    if (!row.key || !isOperator() || !loaded.value || Date.now() > until) return undefined
    const timer = setTimeout(loaded.reload, PERIOD)
    return () => clearTimeout(timer)
  }, [loaded.value, until])
  const sent = row.at.getTime() - (row.ms ?? 0)
  /** @type {Bar[]} */
  const bars = [{ who: t.phone, name: row.path.split('/').pop() ?? '', at: sent, ms: row.ms ?? 0 }, ...(loaded.value ?? []).sort((one, other) => one.at - other.at)]
  if (frame) bars.push({ who: t.phone, name: t.frame, at: frame.at.getTime(), ms: 0 })
  const begin = Math.min(...bars.map((bar) => bar.at))
  const all = Math.max(1, ...bars.map((bar) => bar.at + bar.ms - begin))
  const place = (/** @type {Bar} */ bar) => ({ marginLeft: `${(96 * (bar.at - begin)) / all}%`, width: `max(3px, ${(96 * bar.ms) / all}%)` })
  return html`
    <section class="trace" aria-label=${t.title}>
      <div class="wire-head">
        <h3>${t.title}</h3>
        <span>
          <button type="button" class="link" onClick=${loaded.reload}>${texts().refresh}</button>
          <button type="button" class="link" onClick=${() => wire.trace(null)}>${t.close}</button>
        </span>
      </div>
      ${!isOperator() && html`<p class="hint"><a href="#operations">${t.needsToken}</a></p>`}
      <ol>
        ${bars.map(
          (bar) => html`
            <li><span class="who-name">${bar.who}</span> ${bar.name} <small>+${(bar.at - begin).toFixed()} ms, ${bar.ms.toFixed(1)} ms</small><span class="bar" style=${place(bar)}></span></li>
          `,
        )}
      </ol>
      <${Failure} text=${loaded.failure} />
    </section>
  `
}
