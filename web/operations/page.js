/** The page of operators. */

import { language, texts } from '../i18n/index.js'
import { Failure, useAction } from '../phone/parts.js'
import { LINES, LinesPlot } from '../plot.js'
import { useStore } from '../store.js'
import { html, useEffect, useState } from '../view.js'
import { wire } from '../wire.js'
import { SERVICES, useToken } from './api.js'
import { Fleet } from './fleet.js'
import { NOT_EVALUATED } from './metrics.js'
import { Card, Table } from './parts.js'

/** Kept while the page of the browser is open, so that plots go on. */
const fleet = new Fleet()
let open = false

const short = (/** @type {string} */ service) => service.replace('-service', '')
const shown = (/** @type {number | null} */ value, digits = 0) => (value === null ? '–' : value.toFixed(digits))
const when = (/** @type {string | null} */ time) => (time ? new Date(time).toLocaleTimeString(language.code) : '–')
const last = (/** @type {(number | null)[] | undefined} */ values) => values?.at(-1) ?? null

function Services() {
  const t = texts().ops
  const rows = SERVICES.map((service, index) => {
    const state = fleet.services.get(service)
    const of = (/** @type {string} */ metric, /** @type {Record<string, string>} */ labels = {}) => shown(fleet.sum(service, metric, labels))
    return [
      html`<span class="key" data-line=${index}></span>${short(service)}`,
      state?.now ? 'UP' : html`<b class="warn">DOWN</b>`,
      shown(last(state?.rate), 1),
      shown(last(state?.p95)),
      of('outbox_pending_records'),
      of('outbox_oldest_seconds'),
      of('outbox_relay_leading'),
      of('events_consumer_lag_records'),
      of('sosohappy_sockets_open'),
      of('logback_events_total', { level: 'error' }),
    ]
  })
  return html`<${Card} id="services" title=${t.services}><${Table} label=${t.services} head=${t.serviceColumns.split('|')} rows=${rows} /><//>`
}

function Plots() {
  const t = texts().ops
  const lines = (/** @type {'rate' | 'p95'} */ which) => SERVICES.map((service) => fleet.services.get(service)?.[which] ?? [])
  const described = (/** @type {'rate' | 'p95'} */ which) =>
    `${t[which]}: ${SERVICES.map((service, index) => `${short(service)} ${shown(last(lines(which)[index]), 1)}`).join(', ')}`
  return (/** @type {const} */ (['rate', 'p95'])).map(
    (which) => html`
      <${Card} id=${which} title=${t[which]}>
        <p aria-hidden="true">${SERVICES.map((service, index) => html`<span class="key" data-line=${index}></span>${short(service)}`)}</p>
        <div class="plot-place">
          ${fleet.times.length > 1 && html`<${LinesPlot} times=${fleet.times} lines=${lines(which)} label=${described(which)} />`}
        </div>
      <//>
    `,
  )
}

function Alerts() {
  const t = texts().ops
  const { alerts, history: { ended } } = fleet
  const clock = (/** @type {number} */ time) => new Date(time).toLocaleTimeString(language.code)
  return html`
    <${Card} id="alerts" title=${t.alerts} hint=${t.alertsHint}>
      <div role="status">
        ${alerts.length === 0
          ? html`<p class="fine">${t.noAlerts}</p>`
          : html`
              <ul>
                ${alerts.map(
                  ({ alert, service, value, since, fires, holds }) => html`
                    <li data-fires=${fires}><b class=${fires ? 'warn' : ''}>${alert}</b> ${short(service)} ${shown(value, value !== null && value < 1 ? 2 : 0)} <small>${fires ? t.fires(clock(since)) : t.pending(clock(since), holds)}</small></li>
                  `,
                )}
              </ul>
            `}
      </div>
      ${ended.length > 0 && html`<h3>${t.ended}</h3><ul>${ended.map((one) => html`<li>${one.alert} ${short(one.service)} <small>${clock(one.since)} – ${clock(one.until)}</small></li>`)}</ul>`}
      <h3>${t.notEvaluated}</h3>
      <ul>${NOT_EVALUATED.map(([alert, reason]) => html`<li>${alert} <small>${t.reasons[reason]}</small></li>`)}</ul>
    <//>
  `
}

/** @param {{ change: (path: string, method: string, body?: any) => void, busy: boolean }} properties */
function Settings({ change, busy }) {
  const t = texts().ops
  const settings = fleet.settings
  const canary = settings?.canary
  const instances = Object.values(settings?.services ?? {}).flatMap((service) => service.instances)
  const rows = instances.map((one) => [one.id, one.version?.slice(0, 8) ?? '–', one.standing, one.needsRestart.join(', ') || '–', one.refused ?? '–', one.health ?? '–'])
  const refresh = 'config-service/actuator/busrefresh'
  return html`
    <${Card} id="settings" title=${t.settings} hint=${settings && t.version(settings.version.slice(0, 8), when(settings.since), settings.converged)}>
      <${Table} label=${t.instances} head=${t.instanceColumns.split('|')} rows=${rows} />
      <p role="status" data-canary=${canary?.phase}>${canary ? t.canary(canary.phase, canary.to.slice(0, 8), canary.updated.length, canary.waiting.length, canary.reason ?? '') : t.noCanary}</p>
      <div class="choices">
        <button type="button" class="quiet" disabled=${busy} onClick=${() => change(refresh, 'POST')}>${t.refresh}</button>
        <button type="button" class="quiet" disabled=${busy} onClick=${() => change(`${refresh}?canary=true`, 'POST')}>${t.startCanary}</button>
        <button type="button" class="quiet warn" disabled=${busy} onClick=${() => change(refresh, 'DELETE')}>${t.stopCanary}</button>
      </div>
    <//>
  `
}

/** The fault switches, as `Fault::ALL` of crates/common/src/faults.rs. */
const FAULTS = [
  'fault.latency',
  'fault.errors',
  'fault.lost-answer',
  'fault.panic',
  'fault.slow-store',
  'fault.full-disk',
  'fault.stalled-consumer',
  'fault.dead-relay',
  'fault.broker-away',
  'fault.missing-heartbeats',
  'fault.refused-record',
  'fault.poison-record',
  'fault.failing-task',
  'fault.auth-away',
  'fault.wrong-credential',
  'fault.slow-reader',
  'fault.clock-skew',
  'fault.memory-leak',
]

/** @param {{ change: (path: string, method: string, body?: any) => void, busy: boolean }} properties */
function Flags({ change, busy }) {
  const t = texts().ops
  const [name, setName] = useState('')
  const [value, setValue] = useState('')
  const set = (/** @type {Event} */ event) => {
    event.preventDefault()
    change('config-service/actuator/busenv', 'POST', { name: `flags.${name}`, value })
  }
  const rows = fleet.flags.map((flag) => [flag.key, flag.files.join(', '), when(flag.lastEvaluated), flag.stale ? t.stale : '–'])
  return html`
    <${Card} id="flags" title=${t.flags} hint=${t.flagsHint}>
      ${rows.length === 0 ? html`<p class="fine">${t.noFlags}</p>` : html`<${Table} label=${t.flags} head=${t.flagColumns.split('|')} rows=${rows} />`}
      <datalist id="faults">${FAULTS.map((fault) => html`<option value=${fault}></option>`)}</datalist>
      <form class="choices" onSubmit=${set}>
        <label>${t.flag}<input required list="faults" value=${name} onInput=${(/** @type {any} */ event) => setName(event.target.value)} /></label>
        <label>${t.value}<input value=${value} placeholder="true, false, 25%" onInput=${(/** @type {any} */ event) => setValue(event.target.value)} /></label>
        <button type="submit" class="quiet" disabled=${busy}>${t.set}</button>
      </form>
    <//>
  `
}

function Resignations() {
  const t = texts().ops
  const { count, content } = fleet.resignations
  const rows = content.map((one) => [one.id.slice(0, 8), `${one.ageSeconds} s`, one.acknowledged.join(', ') || '–', one.missing.join(', ') || '–'])
  return html`
    <${Card} id="resignations" title="${t.resignations} (${count})">
      ${count === 0 ? html`<p class="fine">${t.noResignations}</p>` : html`<${Table} label=${t.resignations} head=${t.resignationColumns.split('|')} rows=${rows} />`}
    <//>
  `
}

/** @param {{ run: (action: () => Promise<any>) => void, busy: boolean }} properties */
function DeadLetters({ run, busy }) {
  const t = texts().ops
  const { count, content } = fleet.letters
  const resolve = (/** @type {string[]} */ ids, /** @type {'replayed' | 'discarded'} */ resolution) => run(() => fleet.resolve(ids, resolution))
  const rows = content.map((letter) => [
    letter.id,
    when(letter.rejectedAt),
    letter.group ?? '–',
    letter.reason ?? '–',
    html`
      <button type="button" class="link" disabled=${busy} onClick=${() => resolve([letter.id], 'replayed')}>${t.replay}</button>
      <button type="button" class="link" disabled=${busy} onClick=${() => resolve([letter.id], 'discarded')}>${t.discard}</button>
    `,
  ])
  return html`
    <${Card} id="letters" title="${t.letters} (${count})">
      ${count === 0
        ? html`<p class="fine">${t.noLetters}</p>`
        : html`
            <${Table} label=${t.letters} head=${t.letterColumns.split('|')} rows=${rows} />
            <button type="button" class="quiet" disabled=${busy} onClick=${() => resolve(content.map((letter) => letter.id), 'replayed')}>${t.replayAll(content.length)}</button>
          `}
    <//>
  `
}

function Pushes() {
  const t = texts().ops
  const of = (/** @type {string} */ metric) => shown(fleet.sum('notice-service', metric))
  const samples = fleet.services.get('notice-service')?.now?.get('notice_pushes_total') ?? []
  const counts = new Map(samples.map(({ labels }) => [labels.outcome, fleet.sum('notice-service', 'notice_pushes_total', { outcome: labels.outcome })]))
  return html`
    <${Card} id="pushes" title=${t.pushes} hint=${t.pushQueue(of('notice_pushes_waiting'), of('notice_push_overdue_seconds'))}>
      <ul class="counts">${Array.from(counts, ([outcome, count]) => html`<li><b>${shown(count)}</b> ${outcome}</li>`)}</ul>
    <//>
  `
}

function Crowd() {
  const t = texts().ops
  const crowd = fleet.crowd
  const kinds = /** @type {const} */ (['posts', 'likes', 'messages'])
  // A post is looked for in the diary at the end.
  const rows = crowd && kinds.map((kind) => {
    const { acknowledged, seen, doubled } = crowd.summary[kind]
    return [t.kinds[kind], acknowledged, kind === 'posts' && !crowd.isOver ? '–' : seen, doubled]
  })
  return html`
    <${Card} id="crowd" title=${t.crowd}>
      ${crowd
        ? html`
            <p>${t.crowdLine(crowd.people, crowd.rate, crowd.seconds, crowd.isOver, when(crowd.reportedAt))}</p>
            <p class="hint">${t.crowdCalls(crowd.summary)}</p>
            <${Table} label=${t.crowd} head=${t.crowdColumns.split('|')} rows=${rows} />
          `
        : html`<p class="fine">${t.noCrowd}</p>`}
    <//>
  `
}

function Panels() {
  useStore(fleet)
  useEffect(() => fleet.watch(), [])
  const { busy, failure, run } = useAction()
  const change = (/** @type {string} */ path, /** @type {string} */ method, /** @type {any} */ body) => run(() => fleet.change(path, method, body))
  return html`
    <main class="panels">
      <h2 class="hidden">${texts().page.operations}</h2>
      <${Failure} text=${failure || fleet.failure} />
      <${Alerts} />
      <${Crowd} />
      <${Services} />
      <${Plots} />
      <${Settings} change=${change} busy=${busy} />
      <${Flags} change=${change} busy=${busy} />
      <${Pushes} />
      <${Resignations} />
      <${DeadLetters} run=${run} busy=${busy} />
    </main>
  `
}

export function Operations() {
  const t = texts().ops
  const [token, setToken] = useState('')
  const [, setOpened] = useState(open)
  const { busy, failure, run } = useAction()
  if (open) return html`<${Panels} />`
  const enter = (/** @type {Event} */ event) => {
    event.preventDefault()
    run(async () => {
      useToken(token)
      await fleet.readSettings()
      wire.follows = true
      open = true
      setOpened(true)
    })
  }
  return html`
    <main class="panels">
      <form class="panel gate" onSubmit=${enter}>
        <h2>${texts().page.operations}</h2>
        <p class="hint">${t.tokenHint}</p>
        <label for="operator-token">${t.token}</label>
        <input id="operator-token" type="password" autocomplete="off" required value=${token} onInput=${(/** @type {any} */ event) => setToken(event.target.value)} />
        <button type="submit" class="main" disabled=${busy}>${t.enter}</button>
        <${Failure} text=${failure} />
      </form>
    </main>
  `
}
