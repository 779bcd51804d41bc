/** Conversations, and one of them. */

import { moment } from '../dates.js'
import { language, texts } from '../i18n/index.js'
import { iconOf } from '../icons.js'
import { html, useEffect, useId, useRef, useState } from '../view.js'
import { messageKey } from '../wire.js'
import { Avatar, Failure, useLoaded } from './parts.js'

/** @param {number} date */
const timeText = (date) => moment(date).toLocaleTimeString(language.code, { hour: 'numeric', minute: '2-digit' })

/** @param {{ session: import('../session.js').Session, open: (nickname: string) => void }} properties */
function List({ session, open }) {
  const t = texts()
  const loaded = useLoaded(() => session.conversations(), [session.messages.length])
  const newest = loaded.value ?? []
  return html`
    <div class="screen">
      <div class="screen-head"><h3>${t.messages}</h3></div>
      <${Failure} text=${loaded.failure} />
      ${loaded.value && newest.length === 0 && html`<p class="empty">${t.noMessages}</p>`}
      <ul class="list">
        ${newest.map((message) => {
          const other = message.sender === session.nickname ? message.receiver : message.sender
          return html`
            <li key=${other}>
              <button type="button" class="line" onClick=${() => open(other)}>
                <${Avatar} session=${session} nickname=${other} />
                <span class="line-text"><b>${other}</b><span>${message.text}</span></span>
                <time>${timeText(message.date)}</time>
              </button>
            </li>
          `
        })}
      </ul>
    </div>
  `
}

/** @param {{ session: import('../session.js').Session, other: string, back: () => void }} properties */
function Conversation({ session, other, back }) {
  const t = texts()
  const id = useId()
  const [text, setText] = useState('')
  const [failure, setFailure] = useState('')
  const end = useRef(/** @type {HTMLElement | null} */ (null))
  const loaded = useLoaded(() => session.history(other), [other])
  // Messages of this session say how far they have come.
  const recent = new Map(session.messages.filter((message) => [message.sender, message.receiver].includes(other)).map((message) => [messageKey(message), message]))
  const history = loaded.value ?? []
  const known = new Set(history.map(messageKey))
  const messages = [...history.map((message) => recent.get(messageKey(message)) ?? message), ...[...recent.values()].filter((message) => !known.has(messageKey(message)))]
  useEffect(() => {
    session.readMessagesOf(other)
    if (end.current) end.current.scrollTop = end.current.scrollHeight
  }, [messages.length])
  const marked = (/** @type {import('../session.js').Message} */ message) => {
    const mark = message.sender === session.nickname && session.markOf(message)
    return mark && html` · <span data-mark=${mark}>${t.marks[mark]}</span>`
  }
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault()
    const sent = session.say(other, text.trim())
    setFailure(sent ? '' : t.notConnected)
    if (sent) setText('')
  }
  return html`
    <section class="screen talk" aria-label=${t.conversationWith(other)}>
      <div class="screen-head">
        <button type="button" class="round" aria-label=${t.back} onClick=${back}>${iconOf('back')}</button>
        <${Avatar} session=${session} nickname=${other} />
        <h3>${other}</h3>
      </div>
      <div class="bubbles" tabindex="0" role="log" aria-label=${t.conversationWith(other)} ref=${end}>
        ${messages.map(
          (message) => html`
            <p key="${message.sender} ${message.date}" class="bubble ${message.sender === session.nickname ? 'own' : ''}">
              <span>${message.text}</span><time>${timeText(message.date)}${marked(message)}</time>
            </p>
          `,
        )}
      </div>
      <${Failure} text=${failure || loaded.failure} />
      <form class="say" onSubmit=${submit}>
        <label class="hidden" for="${id}-text">${t.message}</label>
        <input id="${id}-text" required pattern=".*\\S.*" autocomplete="off" placeholder=${t.message} value=${text} onInput=${(/** @type {any} */ event) => setText(event.target.value)} />
        <button class="main" type="submit">${t.send}</button>
      </form>
    </section>
  `
}

/** @param {{ session: import('../session.js').Session, other: string, open: (nickname: string) => void }} properties */
export function Messages({ session, other, open }) {
  useEffect(() => session.read('messages'), [session.unread.messages])
  return other
    ? html`<${Conversation} key=${other} session=${session} other=${other} back=${() => open('')} />`
    : html`<${List} session=${session} open=${open} />`
}
