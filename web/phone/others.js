/** The public posts of others. */

import { texts } from '../i18n/index.js'
import { iconOf } from '../icons.js'
import { html } from '../view.js'
import { Avatar, Failure, useAction, useLoaded } from './parts.js'
import { PostCard } from './post.js'

/** @param {{ session: import('../session.js').Session, talkTo: (nickname: string) => void, blocked: (nickname: string) => void }} properties */
export function Others({ session, talkTo, blocked }) {
  const t = texts()
  const { failure, run } = useAction()
  const loaded = useLoaded(() => session.others(), [])
  const posts = loaded.value ?? []
  const like = (/** @type {import('../session.js').Post} */ post) =>
    run(async () => {
      const isLiked = await session.like(post)
      loaded.set(posts.map((other) => (other === post ? { ...post, isLiked } : other)))
    })
  const block = (/** @type {string} */ nickname) =>
    run(async () => {
      await session.setBlocked(nickname, true)
      blocked(nickname)
      loaded.set(posts.filter((post) => post.nickname !== nickname))
    })
  return html`
    <div class="screen">
      <div class="screen-head">
        <h3>${t.others}</h3>
        <button type="button" class="round" aria-label=${t.refresh} onClick=${loaded.reload}>${iconOf('refresh')}</button>
      </div>
      <${Failure} text=${failure || loaded.failure} />
      ${loaded.value && posts.length === 0 && html`<p class="empty">${t.noOthers}</p>`}
      ${posts.map(
        (post) => html`
          <${PostCard} key="${post.nickname} ${post.date}" post=${post} author=${html`<${Avatar} session=${session} nickname=${post.nickname} />`}>
            <button type="button" class="heart" aria-pressed=${Boolean(post.isLiked)} aria-label=${post.isLiked ? t.unlike(post.nickname) : t.like(post.nickname)} onClick=${() => like(post)}>${iconOf('heart')}</button>
            <button type="button" class="round" aria-label=${t.messageTo(post.nickname)} onClick=${() => talkTo(post.nickname)}>${iconOf('messages')}</button>
            <button type="button" class="round last" aria-label=${t.block(post.nickname)} onClick=${() => block(post.nickname)}>${iconOf('block')}</button>
          <//>
        `,
      )}
    </div>
  `
}
