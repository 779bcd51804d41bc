/** Settings of the person: profile, blocked people, sign-out, leaving. */

import { texts } from '../i18n/index.js'
import { html, useState } from '../view.js'
import { Avatar, Failure, useAction } from './parts.js'
import { Profile } from './profile.js'

/** @param {{ session: import('../session.js').Session, blockedPeople: string[], unblocked: (nickname: string) => void }} properties */
export function Settings({ session, blockedPeople, unblocked }) {
  const t = texts()
  const [editing, setEditing] = useState(false)
  const [leaving, setLeaving] = useState(false)
  const { busy, failure, run } = useAction()
  if (editing) return html`<${Profile} session=${session} nickname=${session.nickname} done=${() => setEditing(false)} />`
  return html`
    <div class="screen">
      <div class="screen-head"><h3>${t.settings}</h3></div>
      <div class="line card">
        <${Avatar} session=${session} nickname=${session.nickname} />
        <span class="line-text"><b>${session.nickname}</b><span>${session.account}</span></span>
      </div>
      <button type="button" class="quiet wide" onClick=${() => setEditing(true)}>${t.editProfile}</button>
      <h4>${t.blockedPeople}</h4>
      ${blockedPeople.length === 0
        ? html`<p class="hint">${t.noBlocked}</p>`
        : html`
            <ul class="list">
              ${blockedPeople.map(
                (nickname) => html`
                  <li key=${nickname} class="line">
                    <span class="line-text"><b>${nickname}</b></span>
                    <button type="button" class="link" onClick=${() => run(async () => {
                      await session.setBlocked(nickname, false)
                      unblocked(nickname)
                    })}>${t.unblock(nickname)}</button>
                  </li>
                `,
              )}
            </ul>
          `}
      <h4>${t.account}</h4>
      <button type="button" class="quiet wide" disabled=${busy} onClick=${() => run(() => session.signOut())}>${t.signOut}</button>
      ${leaving
        ? html`
            <div class="sure" role="group" aria-label=${t.leave}>
              <p>${t.leaveHint}</p>
              <button type="button" class="danger" disabled=${busy} onClick=${() => run(() => session.resign())}>${t.leaveSure}</button>
              <button type="button" class="quiet" onClick=${() => setLeaving(false)}>${t.cancel}</button>
            </div>
          `
        : html`<button type="button" class="quiet wide warn" onClick=${() => setLeaving(true)}>${t.leave}</button>`}
      <${Failure} text=${failure} />
    </div>
  `
}
