/** One post, as its author and as others see it. */

import { moment } from '../dates.js'
import { language, texts } from '../i18n/index.js'
import { face, iconOf } from '../icons.js'
import { pictureUrl } from '../session.js'
import { html } from '../view.js'

/** Returns the day of a post in the language of the page. @param {number} date */
const dayText = (date) => moment(date).toLocaleDateString(language.code, { month: 'long', day: 'numeric', weekday: 'short' })

/** @param {{ post: import('../session.js').Post, author?: any, children?: any }} properties */
export function PostCard({ post, author, children }) {
  const t = texts()
  return html`
    <article class="post" data-author=${post.nickname} data-date=${post.date}>
      <header>
        ${author}
        <div class="by">
          ${author && html`<h4>${post.nickname}</h4>`}
          <time>${dayText(post.date)}</time>
        </div>
        <span class="mood" role="img" aria-label="${t.happinessOf(post.happiness)}, ${t.weathers[post.weather] ?? post.weather}">
          ${t.weathers[post.weather] && iconOf(post.weather)}${face(post.happiness)}
        </span>
      </header>
      ${post.imageIdList.length > 0 &&
      html`
        <div class="strip ${post.imageIdList.length > 1 ? 'many' : ''}">
          ${post.imageIdList.map((id, index) => html`<img key=${id} src=${pictureUrl(id)} alt=${t.photo(index + 1)} />`)}
        </div>
      `}
      ${post.text && html`<p class="words">${post.text}</p>`}
      <ul class="tags">
        ${post.categoryList.map((name) => html`<li key=${name}>${t.category[name] ?? name}</li>`)}
      </ul>
      <footer>${children}</footer>
    </article>
  `
}
