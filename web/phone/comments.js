/** Comments on a post: a button, and below it what it opens. */

import { texts } from '../i18n/index.js'
import { iconOf } from '../icons.js'
import { html, useId, useState } from '../view.js'
import { Failure, useAction, useLoaded } from './parts.js'

/** @param {{ session: import('../session.js').Session, post: import('../session.js').Post }} properties */
function List({ session, post }) {
  const t = texts()
  const id = useId()
  const [text, setText] = useState('')
  const { busy, failure, run } = useAction()
  const loaded = useLoaded(() => session.comments(post), [post.nickname, post.date])
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault()
    run(async () => {
      await session.comment(post, text.trim())
      setText('')
      loaded.reload()
    })
  }
  return html`
    <div class="comments">
      ${loaded.value?.length === 0 && html`<p class="hint">${t.noComments}</p>`}
      <ul>${loaded.value?.map((one) => html`<li key=${one.commentId}><b>${one.nickname}</b> ${one.text}</li>`)}</ul>
      <form class="say" onSubmit=${submit}>
        <label class="hidden" for="${id}-comment">${t.comment}</label>
        <input id="${id}-comment" required pattern=".*\\S.*" autocomplete="off" placeholder=${t.comment} value=${text} onInput=${(/** @type {any} */ event) => setText(event.target.value)} />
        <button class="main" type="submit" disabled=${busy}>${t.send}</button>
      </form>
      <${Failure} text=${failure || loaded.failure} />
    </div>
  `
}

/** @param {{ session: import('../session.js').Session, post: import('../session.js').Post }} properties */
export function Comments({ session, post }) {
  const t = texts()
  const [open, setOpen] = useState(false)
  return html`
    <button type="button" class="round" data-action="comments" aria-expanded=${open} aria-label=${t.comments(post.nickname)} onClick=${() => setOpen(!open)}>${iconOf('comment')}</button>
    ${open && html`<${List} session=${session} post=${post} />`}
  `
}
