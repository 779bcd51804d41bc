/** A month: calendar, happiness plot, and one's own posts. */

import { dayOf, isoDay, stamp } from '../dates.js'
import { language, texts } from '../i18n/index.js'
import { face, iconOf } from '../icons.js'
import { HappinessPlot } from '../plot.js'
import { html, useState } from '../view.js'
import { Comments } from './comments.js'
import { Failure, useAction, useLoaded } from './parts.js'
import { PostCard } from './post.js'
import { WEATHERS } from './today.js'

const SAMPLES = 14
const SAMPLE_CATEGORIES = ['coffee', 'friends', 'nature', 'music', 'food', 'books', 'exercise', 'sleep', 'movie', 'pet']

/** @param {{ year: number, month: number, posts: import('../session.js').Post[] }} properties */
function Calendar({ year, month, posts }) {
  const t = texts()
  const first = new Date(year, month, 1)
  const length = new Date(year, month + 1, 0).getDate()
  const happiness = new Map(posts.map((post) => [dayOf(post.date), post.happiness]))
  // 1 January 2023 was a Sunday.
  const weekdays = Array.from({ length: 7 }, (_, index) => new Date(2023, 0, index + 1).toLocaleDateString(language.code, { weekday: 'narrow' }))
  const heading = weekdays.map((name, index) => html`<li key="weekday-${index}" class="weekday" aria-hidden="true">${name}</li>`)
  const blanks = Array.from({ length: first.getDay() }, (_, index) => html`<li key="blank-${index}" class="blank" aria-hidden="true"></li>`)
  const days = Array.from({ length }, (_, index) => {
    const level = happiness.get(index + 1)
    return html`
      <li key=${index} class=${level ? 'written' : ''}>
        ${level
          ? html`${face(level)}<span class="hidden">${index + 1}: ${t.happinessOf(level)}</span>`
          : html`<span>${index + 1}</span>`}
      </li>
    `
  })
  return html`<ol class="calendar">${[...heading, ...blanks, ...days]}</ol>`
}

/** Returns the days of a month up to today that are not written. @param {Date} first @param {import('../session.js').Post[]} posts */
function unwritten(first, posts) {
  const [today, written] = [isoDay(), new Set(posts.map((post) => dayOf(post.date)))]
  const last = isoDay(first).slice(0, 7) === today.slice(0, 7) ? Number(today.slice(8)) : new Date(first.getFullYear(), first.getMonth() + 1, 0).getDate()
  return Array.from({ length: last }, (_, index) => index + 1).filter((day) => !written.has(day))
}

/** Writes some of these days, for oneself only. @param {import('../session.js').Session} session @param {Date} first @param {number[]} days */
async function fill(session, first, days) {
  const chosen = days.filter((_, index) => index % Math.max(1, Math.floor(days.length / SAMPLES)) === 0).slice(0, SAMPLES)
  for (const day of chosen) {
    const happiness = Math.round(3.2 + Math.sin(day / 3.5) * 1.3 + Math.random() * 0.8)
    await session.savePost(
      {
        date: stamp(new Date(first.getFullYear(), first.getMonth(), day, 21, day % 60)),
        weather: WEATHERS[(day * 3) % WEATHERS.length],
        happiness,
        text: '',
        categoryList: [SAMPLE_CATEGORIES[(day * 7) % SAMPLE_CATEGORIES.length], SAMPLE_CATEGORIES[(day * 3) % SAMPLE_CATEGORIES.length]],
        isPublic: false,
      },
      [],
    )
  }
}

/** @param {{ session: import('../session.js').Session }} properties */
export function Month({ session }) {
  const t = texts()
  const [first, setFirst] = useState(() => new Date(new Date().getFullYear(), new Date().getMonth(), 1))
  const { busy, failure, run } = useAction()
  const date = stamp(first)
  const loaded = useLoaded(async () => {
    const [posts, days, analysis] = await Promise.all([session.month(date), session.monthHappiness(date), session.analysis(date)])
    return { posts, days, analysis }
  }, [date])
  const turn = (/** @type {number} */ months) => setFirst((before) => new Date(before.getFullYear(), before.getMonth() + months, 1))
  const { posts, days, analysis } = loaded.value ?? { posts: [], days: [], analysis: { bestCategoryList: [], recommendCategoryList: [] } }
  const written = days.filter((day) => day.happiness > 0)
  const average = written.reduce((sum, day) => sum + day.happiness, 0) / (written.length || 1)
  const free = unwritten(first, posts)
  const isCurrent = isoDay(first).slice(0, 7) === isoDay().slice(0, 7)
  const change = (/** @type {() => Promise<any>} */ action) => run(async () => {
    await action()
    loaded.reload()
  })
  return html`
    <div class="screen">
      <div class="screen-head">
        <button type="button" class="round" aria-label=${t.previousMonth} onClick=${() => turn(-1)}>${iconOf('back')}</button>
        <h3>${first.toLocaleDateString(language.code, { year: 'numeric', month: 'long' })}</h3>
        <button type="button" class="round" aria-label=${t.nextMonth} disabled=${isCurrent} onClick=${() => turn(1)}>${iconOf('forward')}</button>
      </div>
      <${Calendar} year=${first.getFullYear()} month=${first.getMonth()} posts=${posts} />
      <div class="plot-place">
        ${loaded.value && html`<${HappinessPlot} days=${days} label=${t.plot(written.length, average.toFixed(1))} />`}
      </div>
      ${analysis.bestCategoryList.length > 0 &&
      html`<p class="best"><span>${t.best}</span> ${analysis.bestCategoryList.map((name) => html`<b key=${name}>${t.category[name] ?? name}</b>`)}</p>`}
      ${loaded.value && posts.length === 0 && html`<p class="empty">${t.noPosts}</p>`}
      ${loaded.value && posts.length < 8 && free.length > 0 &&
      html`<button type="button" class="quiet" disabled=${busy} onClick=${() => change(() => fill(session, first, free))}>${busy ? t.filling : t.fillMonth}</button>`}
      <${Failure} text=${failure || loaded.failure} />
      ${posts.map(
        (post) => html`
          <${PostCard} key=${post.date} post=${post}>
            ${post.likeNicknameList && post.likeNicknameList.length > 0 && html`<p class="liked">${iconOf('heart')}${t.likedBy(post.likeNicknameList.join(', '))}</p>`}
            <span class="badge">${post.isPublic ? t.public : t.private}</span>
            <button type="button" class="link" onClick=${() => change(() => session.togglePublic(post.date))}>${post.isPublic ? t.makePrivate : t.makePublic}</button>
            <button type="button" class="link" onClick=${() => change(() => session.deletePost(post.date))}>${t.delete}</button>
            ${post.isPublic && html`<${Comments} session=${session} post=${post} />`}
          <//>
        `,
      )}
    </div>
  `
}
