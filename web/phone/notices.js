/** Notices that arrived in this session. */

import { moment } from '../dates.js'
import { language, texts } from '../i18n/index.js'
import { iconOf } from '../icons.js'
import { html, useEffect } from '../view.js'
import { Avatar } from './parts.js'

/** @type {Record<string, string>} */
const ICONS = { like: 'heart', comment: 'messages', follow: 'follow', friend: 'follow' }

/** @param {{ session: import('../session.js').Session }} properties */
export function Notices({ session }) {
  const t = texts()
  useEffect(() => session.read('notices'), [session.unread.notices])
  return html`
    <div class="screen">
      <div class="screen-head"><h3>${t.notices}</h3></div>
      ${session.notices.length === 0 && html`<p class="empty">${t.noNotices}</p>`}
      <ul class="list" aria-live="polite">
        ${session.notices.map(
          ({ topic, who, date }, index) => html`
            <li key=${session.notices.length - index} class="line notice">
              <${Avatar} session=${session} nickname=${who} />
              <span class="line-text"><b>${(t.noticed[topic] ?? t.noticed.other)(who)}</b><span>${date && moment(date).toLocaleDateString(language.code, { month: 'long', day: 'numeric' })}</span></span>
              ${iconOf(ICONS[topic] ?? 'notices')}
            </li>
          `,
        )}
      </ul>
    </div>
  `
}
