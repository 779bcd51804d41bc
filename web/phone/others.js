/** The public posts of others. */

import { texts } from '../i18n/index.js'
import { iconOf } from '../icons.js'
import { html } from '../view.js'
import { Comments } from './comments.js'
import { Avatar, Failure, useAction, useLoaded } from './parts.js'
import { PostCard } from './post.js'

const keyOf = (/** @type {import('../session.js').Post} */ post) => `${post.nickname} ${post.date}`

/** A set with a member, or without it. @param {Set<string>} set @param {string} member @param {boolean} isIn */
const changed = (set, member, isIn) => new Set(isIn ? [...set, member] : [...set].filter((one) => one !== member))

/** @param {{ session: import('../session.js').Session, talkTo: (nickname: string) => void, blocked: (nickname: string) => void }} properties */
export function Others({ session, talkTo, blocked }) {
  const t = texts()
  const { failure, run } = useAction()
  const loaded = useLoaded(async () => {
    const [posts, bookmarks, following] = await Promise.all([session.others(), session.bookmarks(), session.following()])
    return { posts, saved: new Set(bookmarks.map(keyOf)), followed: new Set(following) }
  }, [])
  const value = loaded.value ?? { posts: [], saved: new Set(), followed: new Set() }
  const { posts, saved, followed } = value
  const like = (/** @type {import('../session.js').Post} */ post) =>
    run(async () => {
      const isLiked = await session.like(post)
      loaded.set({ ...value, posts: posts.map((other) => (other === post ? { ...post, isLiked } : other)) })
    })
  const bookmark = (/** @type {import('../session.js').Post} */ post) =>
    run(async () => loaded.set({ ...value, saved: changed(saved, keyOf(post), await session.bookmark(post)) }))
  const follow = (/** @type {string} */ nickname) =>
    run(async () => {
      const isFollowed = !followed.has(nickname)
      await session.setFollowed(nickname, isFollowed)
      loaded.set({ ...value, followed: changed(followed, nickname, isFollowed) })
    })
  const block = (/** @type {string} */ nickname) =>
    run(async () => {
      await session.setBlocked(nickname, true)
      blocked(nickname)
      loaded.set({ ...value, posts: posts.filter((post) => post.nickname !== nickname) })
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
          <${PostCard} key=${keyOf(post)} post=${post} author=${html`<${Avatar} session=${session} nickname=${post.nickname} />`}>
            <button type="button" class="heart" aria-pressed=${Boolean(post.isLiked)} aria-label=${post.isLiked ? t.unlike(post.nickname) : t.like(post.nickname)} onClick=${() => like(post)}>${iconOf('heart')}</button>
            <button type="button" class="round" aria-label=${t.messageTo(post.nickname)} onClick=${() => talkTo(post.nickname)}>${iconOf('messages')}</button>
            <button type="button" class="round" data-action="bookmark" aria-pressed=${saved.has(keyOf(post))} aria-label=${t.bookmark(post.nickname)} onClick=${() => bookmark(post)}>${iconOf('bookmark')}</button>
            <button type="button" class="round" data-action="follow" aria-pressed=${followed.has(post.nickname)} aria-label=${t.follow(post.nickname)} onClick=${() => follow(post.nickname)}>${iconOf('follow')}</button>
            <${Comments} session=${session} post=${post} />
            <button type="button" class="round last" aria-label=${t.block(post.nickname)} onClick=${() => block(post.nickname)}>${iconOf('block')}</button>
          <//>
        `,
      )}
    </div>
  `
}
