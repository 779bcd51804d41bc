/** The panel of what travels. */

import { texts } from './i18n/index.js'
import { useStore } from './store.js'
import { html, useEffect, useState } from './view.js'
import { wire } from './wire.js'

const SERVICE = /^\/([a-z]+)-service\/(.*)$/
/** Frames are cut to one line. */
const SHOWN = 120
const ARROWS = { request: '', sent: '↑ ', received: '↓ ', opened: '', closed: '' }

const rounded = (/** @type {number} */ ms) => (ms < 10 ? ms.toFixed(1) : ms.toFixed(0))

/** @param {{ kind: 'like' | 'message' }} properties */
function Journey({ kind }) {
  const t = texts()
  const ms = wire.journeys[kind]
  return html`
    <p class="journey">
      <span class="figure">${ms === null ? html`<span aria-hidden="true">–</span>` : html`${rounded(ms)}<small> ms</small>`}</span>
      <span>${ms === null ? t.journeyHint[kind] : t.journey[kind]}</span>
    </p>
  `
}

/** @param {{ row: import('./wire.js').Row }} properties */
function WireRow({ row }) {
  const t = texts()
  const [, service, call] = SERVICE.exec(row.path) ?? [null, '', row.path]
  const time = `${row.at.toTimeString().slice(0, 8)}.${String(row.at.getMilliseconds()).padStart(3, '0')}`
  const request = row.kind === 'request'
  const what = html`<span class="service ${service}">${service}</span>${call}`
  const failed = request && row.status !== 200
  return html`
    <li class="row ${row.kind} ${failed ? 'failed' : ''} ${row.tap === undefined ? '' : 'caused'}" title=${row.requestId && `${request ? 'x-request-id' : 'trace'}: ${row.requestId}`}>
      <span class="who phone-${row.phone}" title=${t.phone(row.phone)}><span class="hidden">${t.phone(row.phone)}</span><span aria-hidden="true">${row.phone}</span></span>
      <span class="method">${request ? row.method : ARROWS[row.kind] + t[row.kind]}</span>
      ${row.requestId
        ? html`<button type="button" class="call" onClick=${() => wire.trace(row)}>${what}</button>`
        : html`<span class="call">${what}</span>`}
      <span class="status">${row.status === 0 ? '—' : row.status}</span>
      <span class="ms">${row.ms === undefined ? '' : `${rounded(row.ms)} ms`}</span>
      ${row.text && html`<code class="frame">${row.text.length > SHOWN ? `${row.text.slice(0, SHOWN)}…` : row.text}</code>`}
      ${row.tap !== undefined && html`<span class="tap">${t.afterTap(rounded(row.tap))}</span>`}
      <time class="time">${time}</time>
    </li>
  `
}

/** The trace of a request, loaded when the first one is opened. @param {{ row: import('./wire.js').Row }} properties */
function Traced({ row }) {
  const [view, setView] = useState(/** @type {any} */ (null))
  useEffect(() => {
    import('./operations/trace.js').then((module) => setView(() => module.Trace))
  }, [])
  return view && html`<${view} key=${row.id} row=${row} frame=${row.key && wire.rows.find((one) => one.kind === 'received' && one.key === row.key && one.phone !== row.phone)} />`
}

export function WirePanel() {
  useStore(wire)
  const t = texts()
  return html`
    <section class="wire" aria-labelledby="wire-title">
      <div class="wire-head">
        <div>
          <h2 id="wire-title">${t.wire}</h2>
          <p class="hint">${t.wireHint}</p>
        </div>
        <button type="button" class="quiet" onClick=${() => wire.clear()}>${t.clear}</button>
      </div>
      <div class="journeys" role="status">
        <${Journey} kind="like" />
        <${Journey} kind="message" />
      </div>
      ${wire.traced && html`<${Traced} row=${wire.traced} />`}
      <div class="rows" tabindex="0" role="region" aria-label=${t.wireHint}>
        ${wire.rows.length === 0
          ? html`<p class="empty">${t.wireEmpty}</p>`
          : html`<ol>${wire.rows.map((row) => html`<${WireRow} key=${row.id} row=${row} />`)}</ol>`}
      </div>
    </section>
  `
}
