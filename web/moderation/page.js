/** The page of moderators and admins. */

import { ApiError } from '../api.js'
import { language, texts } from '../i18n/index.js'
import { isOperator, json } from '../operations/api.js'
import { Card, Table } from '../operations/parts.js'
import { Failure, useAction, useLoaded } from '../phone/parts.js'
import { SignIn } from '../phone/sign-in.js'
import { Session, pictureUrl } from '../session.js'
import { useStore } from '../store.js'
import { html, useState } from '../view.js'

const REASONS = ['harassment', 'hate', 'violence', 'sexualContent', 'unlawfulImagery', 'selfHarm', 'spam', 'impersonation', 'privacy', 'other']
const EMPTY = { content: /** @type {any[]} */ ([]) }

/** A session that shows no notices and messages: it opens no sockets. */
class Moderator extends Session {
  connect() {}
}

/** Kept while the page of the browser is open. */
const session = new Moderator(0)

const when = (/** @type {string} */ time) => new Date(time).toLocaleString(language.code)
const get = (/** @type {string} */ call) => session.api.get(`/auth-service/admin/${call}`)

/** The oldest posts or comments that wait for a decision. @param {string} call */
const getHeld = (call) => session.api.get(`/feed-service/admin/${call}`, { size: '25' })

/** The time until a deadline. @param {{ isLate: boolean, dueAt: string }} one */
function due(one) {
  const t = texts().moderation
  return one.isLate ? html`<b class="warn">${t.late}</b>` : t.due(Math.floor((Date.parse(one.dueAt) - Date.now()) / 3_600_000))
}

/** A list for admins only; empty for moderators. @param {string} call */
const forAdmins = (call) => get(call).catch((error) => (error instanceof ApiError && error.code === 'role-required' ? null : Promise.reject(error)))

/** @param {{ reports: any[], resolve: (call: string, fields: any) => void, busy: boolean }} properties */
function Reports({ reports, resolve, busy }) {
  const t = texts().moderation
  const rows = reports.map((one) => [
    one.nickname,
    `${one.kind} ${one.content}`,
    one.reason,
    one.reporter ?? '–',
    one.text || '–',
    due(one),
    Object.keys(t.actions).map((action) => html`<button type="button" class="link" disabled=${busy} onClick=${() => resolve('resolveReport', { report: one.report, action })}>${t.actions[action]}</button>`),
  ])
  return html`
    <${Card} id="reports" title=${t.reports}>
      ${rows.length === 0 ? html`<p class="fine">${t.noReports}</p>` : html`<${Table} label=${t.reports} head=${t.reportColumns.split('|')} rows=${rows} />`}
    <//>
  `
}

/**
 * Posts and comments with a word of the list, which others see once they are released. They are loaded after the other lists, each time those are.
 * @param {{ loaded: any, decide: (call: string, fields: any) => void, busy: boolean }} properties
 */
function Held({ loaded, decide, busy }) {
  const t = texts().moderation
  const held = useLoaded(async () => (loaded ? Promise.all([getHeld('heldFeed'), getHeld('heldComment')]) : [EMPTY, EMPTY]), [loaded])
  const [posts, comments] = (held.value ?? [EMPTY, EMPTY]).map((list) => list.content)
  const pictures = (/** @type {(number | string)[]} */ ids) =>
    ids.length === 0 ? '–' : ids.map((id, index) => [index > 0 && ', ', html`<a href=${pictureUrl(id)} target="_blank" rel="noreferrer">${t.picture(index + 1)}</a>`])
  const decisions = (/** @type {string} */ call, /** @type {any} */ fields) =>
    [true, false].map(
      (accepted) => html`<button type="button" class="link" disabled=${busy} onClick=${() => decide(call, { ...fields, accepted })}>${accepted ? t.release : t.refuse}</button>`,
    )
  const rows = [
    ...posts.map((/** @type {any} */ one) => [
      one.nickname,
      `post ${one.date}`,
      [one.text, ...one.categoryList, one.weather].filter(Boolean).join(' · '),
      pictures(one.imageIdList),
      due(one),
      decisions('decideHeldFeed', { postId: one.postId, version: one.version }),
    ]),
    ...comments.map((/** @type {any} */ one) => [one.nickname, `comment ${one.commentId}`, one.text, '–', due(one), decisions('decideHeldComment', { commentId: one.commentId })]),
  ]
  return html`
    <${Card} id="held" title=${t.held}>
      <${Failure} text=${held.failure} />
      ${rows.length === 0 ? html`<p class="fine">${t.noHeld}</p>` : html`<${Table} label=${t.held} head=${t.heldColumns.split('|')} rows=${rows} />`}
    <//>
  `
}

/** @param {{ resolve: (call: string, fields: any) => void, busy: boolean }} properties */
function Suspension({ resolve, busy }) {
  const t = texts().moderation
  const [nickname, setNickname] = useState('')
  const [reason, setReason] = useState(REASONS[0])
  const suspend = (/** @type {Event} */ event) => {
    event.preventDefault()
    resolve('suspend', { nickname, reason })
  }
  return html`
    <${Card} id="suspension" title=${t.suspension}>
      <form class="choices" onSubmit=${suspend}>
        <label>${texts().nickname}<input required value=${nickname} onInput=${(/** @type {any} */ event) => setNickname(event.target.value)} /></label>
        <label>${t.reason}<select value=${reason} onChange=${(/** @type {any} */ event) => setReason(event.target.value)}>${REASONS.map((name) => html`<option>${name}</option>`)}</select></label>
        <button type="submit" class="quiet warn" disabled=${busy}>${t.actions.suspend}</button>
        <button type="button" class="quiet" disabled=${busy || !nickname} onClick=${() => resolve('restore', { nickname })}>${t.actions.restore}</button>
      </form>
    <//>
  `
}

/** @param {{ applications: any[], resolve: (call: string, fields: any) => void, busy: boolean }} properties */
function Applications({ applications, resolve, busy }) {
  const t = texts().moderation
  const rows = applications.map((one) => [
    one.nickname,
    one.role,
    one.text || '–',
    when(one.appliedAt),
    [true, false].map(
      (accepted) => html`<button type="button" class="link" disabled=${busy} onClick=${() => resolve('decideRole', { nickname: one.nickname, accepted })}>${accepted ? t.accept : t.refuse}</button>`,
    ),
  ])
  return html`
    <${Card} id="applications" title=${t.applications}>
      ${rows.length === 0 ? html`<p class="fine">${t.noApplications}</p>` : html`<${Table} label=${t.applications} head=${t.applicationColumns.split('|')} rows=${rows} />`}
    <//>
  `
}

/** @param {{ audit: { content: any[], isIntact: boolean } }} properties */
function Audit({ audit }) {
  const t = texts().moderation
  const rows = audit.content.map((one) => [one.entry, when(one.at), one.action, one.effect ? t.effects[one.effect] : '–', one.actor ?? '–', one.target ?? '–', one.reason || '–', one.note || '–'])
  return html`
    <${Card} id="audit" title=${t.audit} hint=${audit.isIntact ? t.intact : t.broken}>
      <${Table} label=${t.audit} head=${t.auditColumns.split('|')} rows=${rows} />
    <//>
  `
}

function Panels() {
  const t = texts().moderation
  const { busy, failure, run } = useAction()
  const loaded = useLoaded(async () => {
    const [reports, applications, audit] = await Promise.all([get('reports'), forAdmins('roleApplications'), forAdmins('audit')])
    return { reports, applications, audit }
  }, [])
  const post = (/** @type {string} */ service) => (/** @type {string} */ call, /** @type {any} */ fields) => run(async () => {
    await session.api.post(`/${service}/admin/${call}`, fields)
    loaded.reload()
  })
  const resolve = post('auth-service')
  const grant = () => run(async () => {
    await json('auth-service/auth-service/grantRole', 'POST', { account: session.account, role: 'admin' })
    loaded.reload()
  })
  const { reports, applications, audit } = loaded.value ?? { reports: EMPTY, applications: null, audit: null }
  return html`
    <div class="choices">
      <b>${session.account}</b>
      <button type="button" class="quiet" onClick=${loaded.reload}>${texts().refresh}</button>
      <button type="button" class="quiet" onClick=${() => run(() => session.signOut())}>${texts().signOut}</button>
    </div>
    <${Failure} text=${failure || loaded.failure} />
    ${loaded.failure && !loaded.value
      ? html`
          <section class="panel" data-panel="role">
            <p>${t.needsRole(session.account)}</p>
            ${isOperator() && html`<button type="button" class="quiet" disabled=${busy} onClick=${grant}>${t.grant}</button>`}
          </section>
        `
      : html`
          <${Reports} reports=${reports.content} resolve=${resolve} busy=${busy} />
          <${Held} loaded=${loaded.value} decide=${post('feed-service')} busy=${busy} />
          <${Suspension} resolve=${resolve} busy=${busy} />
          ${applications && html`<${Applications} applications=${applications.content} resolve=${resolve} busy=${busy} />`}
          ${audit && html`<${Audit} audit=${audit} />`}
        `}
  `
}

export function Moderation() {
  useStore(session)
  return html`
    <main class="panels">
      <h2 class="hidden">${texts().page.moderation}</h2>
      ${session.account
        ? html`<${Panels} />`
        : html`
            <section class="panel gate" data-panel="sign-in">
              <p class="hint">${texts().moderation.hint}</p>
              <${SignIn} session=${session} email="" provider="kakao" />
            </section>
          `}
    </main>
  `
}
