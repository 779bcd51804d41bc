/** Notices that arrived in this session. */

import { moment } from '../dates.js'
import { language, texts } from '../i18n/index.js'
import { iconOf } from '../icons.js'
import { html, useEffect } from '../view.js'
import { Avatar } from './parts.js'

/** @param {{ session: import('../session.js').Session }} properties */
export function Notices({ session }) {
  const t = texts()
  useEffect(() => session.read('notices'), [session.unread.notices])
  return html`
    <div class="screen">
      <div class="screen-head"><h3>${t.notices}</h3></div>
      ${session.likes.length === 0 && html`<p class="empty">${t.noNotices}</p>`}
      <ul class="list" aria-live="polite">
        ${session.likes.map(
          (like, index) => html`
            <li key=${session.likes.length - index} class="line notice">
              <${Avatar} session=${session} nickname=${like.liker} />
              <span class="line-text"><b>${t.liked(like.liker)}</b><span>${moment(like.date).toLocaleDateString(language.code, { month: 'long', day: 'numeric' })}</span></span>
              ${iconOf('heart')}
            </li>
          `,
        )}
      </ul>
    </div>
  `
}
