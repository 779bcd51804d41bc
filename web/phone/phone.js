/** One phone: the frame, the tabs, and the screen that is open. */

import { texts } from '../i18n/index.js'
import { iconOf } from '../icons.js'
import { Session } from '../session.js'
import { useStore } from '../store.js'
import { html, useEffect, useState } from '../view.js'
import { Messages } from './messages.js'
import { Month } from './month.js'
import { Notices } from './notices.js'
import { Others } from './others.js'
import { Profile } from './profile.js'
import { Settings } from './settings.js'
import { SignIn } from './sign-in.js'
import { Today } from './today.js'

const TABS = ['today', 'month', 'others', 'messages', 'notices', 'settings']

/** @param {{ session: Session, tab: string, open: (tab: string) => void }} properties */
function Tabs({ session, tab, open }) {
  const t = texts()
  /** @type {Record<string, number>} */
  const unread = session.unread
  return html`
    <nav class="tabs" aria-label=${t.phone(session.phone)}>
      ${TABS.map(
        (name) => html`
          <button type="button" key=${name} data-tab=${name} aria-current=${tab === name ? 'page' : undefined} onClick=${() => open(name)}>
            ${iconOf(name)}<span>${t.tabs[name]}</span>
            ${unread[name] > 0 && html`<span class="unread">${unread[name]}</span>`}
          </button>
        `,
      )}
    </nav>
  `
}

/**
 * @typedef {object} PhoneProperties
 * @property {number} number
 * @property {string} email suggested at sign-in
 * @property {string} provider suggested at sign-in
 * @property {string} nickname suggested for a new profile
 * @property {(() => void) | null} close
 */

/** @param {PhoneProperties} properties */
export function Phone({ number, email, provider, nickname, close }) {
  const t = texts()
  const [session] = useState(() => new Session(number))
  const [tab, setTab] = useState('today')
  const [other, setOther] = useState('')
  const [blockedPeople, setBlockedPeople] = useState(/** @type {string[]} */ ([]))
  useStore(session)
  useEffect(() => () => session.end(), [session])
  const signedIn = session.account !== ''
  useEffect(() => {
    setTab('today')
    setOther('')
    setBlockedPeople([])
  }, [session.account])

  const open = (/** @type {string} */ name) => {
    setOther('')
    setTab(name)
  }
  const talkTo = (/** @type {string} */ somebody) => {
    setTab('messages')
    setOther(somebody)
  }
  const blocked = (/** @type {string} */ somebody) => setBlockedPeople((before) => [...before, somebody])
  const unblocked = (/** @type {string} */ somebody) => setBlockedPeople((before) => before.filter((name) => name !== somebody))

  /** @type {Record<string, () => any>} */
  const screens = {
    today: () => html`<${Today} session=${session} saved=${() => open('month')} />`,
    month: () => html`<${Month} session=${session} />`,
    others: () => html`<${Others} session=${session} talkTo=${talkTo} blocked=${blocked} />`,
    messages: () => html`<${Messages} session=${session} other=${other} open=${setOther} />`,
    notices: () => html`<${Notices} session=${session} />`,
    settings: () => html`<${Settings} session=${session} blockedPeople=${blockedPeople} unblocked=${unblocked} />`,
  }
  const screen = () => {
    if (!signedIn) return html`<${SignIn} session=${session} email=${email} provider=${provider} />`
    if (!session.nickname) return html`<${Profile} session=${session} nickname=${nickname} />`
    return screens[tab]()
  }
  const state = !session.nickname ? 'offline' : session.online ? 'online' : 'connecting'
  return html`
    <section class="phone" aria-label=${t.phone(number)} data-phone=${number}>
      <div class="phone-head">
        <h2><span class="who phone-${number}" aria-hidden="true">${number}</span>${session.nickname || t.phone(number)}</h2>
        <span class="state ${state}">${t[state]}</span>
        ${close && html`<button type="button" class="round small" aria-label=${t.closePhone(number)} onClick=${close}>${iconOf('close')}</button>`}
      </div>
      <div class="glass">
        <div class="view" tabindex="0" role="region" aria-label="${t.phone(number)}: ${signedIn && session.nickname ? t.tabs[tab] : t.signIn}">${screen()}</div>
        ${signedIn && session.nickname && html`<${Tabs} session=${session} tab=${tab} open=${open} />`}
      </div>
    </section>
  `
}
