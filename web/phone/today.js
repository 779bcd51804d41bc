/** The happiness of a day: weather, happiness, categories, words, photos. */

import { isoDay, stamp } from '../dates.js'
import { texts } from '../i18n/index.js'
import { face, iconOf } from '../icons.js'
import { landscape } from '../picture.js'
import { html, useId, useState } from '../view.js'
import { Failure, useAction, useBlobUrl } from './parts.js'

export const WEATHERS = ['sunny', 'partlyCloudy', 'cloudy', 'rainy', 'snowy']
const FIRST_CATEGORIES = ['coffee', 'friends', 'nature', 'music', 'food', 'books', 'exercise', 'home']

/** @param {{ picture: Blob, number: number, remove: () => void }} properties */
function Chosen({ picture, number, remove }) {
  const t = texts()
  const url = useBlobUrl(picture)
  return html`
    <li class="thumb">
      ${url && html`<img src=${url} alt=${t.photo(number)} />`}
      <button type="button" aria-label=${t.removePhoto(number)} onClick=${remove}>${iconOf('close')}</button>
    </li>
  `
}

/** The date of a post: the present time on the chosen day. @param {string} day `yyyy-MM-dd` */
const dateOn = (day) => {
  const now = new Date()
  const [year, month, date] = day.split('-').map(Number)
  return stamp(new Date(year, month - 1, date, now.getHours(), now.getMinutes(), now.getSeconds(), now.getMilliseconds()))
}

/** @param {{ session: import('../session.js').Session, saved: (date: number) => void }} properties */
export function Today({ session, saved }) {
  const t = texts()
  const id = useId()
  const [day, setDay] = useState(isoDay())
  const [weather, setWeather] = useState('sunny')
  const [happiness, setHappiness] = useState(4)
  const [categories, setCategories] = useState(['coffee'])
  const [text, setText] = useState(t.textSample)
  const [pictures, setPictures] = useState(/** @type {Blob[]} */ ([]))
  const [isPublic, setPublic] = useState(true)
  const { busy, failure, run } = useAction()
  const toggle = (/** @type {string} */ name) =>
    setCategories((before) => (before.includes(name) ? before.filter((other) => other !== name) : [...before, name]))
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault()
    const date = dateOn(day)
    run(async () => {
      await session.savePost({ weather, happiness, text, date, isPublic, categoryList: categories }, pictures)
      saved(date)
    })
  }
  const all = [...FIRST_CATEGORIES, ...Object.keys(t.category).filter((name) => !FIRST_CATEGORIES.includes(name))]
  return html`
    <form class="screen" onSubmit=${submit}>
      <div class="screen-head">
        <h3>${t.today}</h3>
        <label class="hidden" for="${id}-day">${t.day}</label>
        <input id="${id}-day" class="day" type="date" required max=${isoDay()} value=${day} onInput=${(/** @type {any} */ event) => setDay(event.target.value)} />
      </div>
      <fieldset class="faces">
        <legend>${t.happiness}</legend>
        ${[1, 2, 3, 4, 5].map(
          (level) => html`
            <label>
              <input type="radio" name="${id}-happiness" value=${level} aria-label=${t.happinessOf(level)} checked=${happiness === level} onChange=${() => setHappiness(level)} />
              ${face(level)}
            </label>
          `,
        )}
      </fieldset>
      <fieldset class="weathers">
        <legend>${t.weather}</legend>
        ${WEATHERS.map(
          (name) => html`
            <label title=${t.weathers[name]}>
              <input type="radio" name="${id}-weather" value=${name} aria-label=${t.weathers[name]} checked=${weather === name} onChange=${() => setWeather(name)} />
              ${iconOf(name)}
            </label>
          `,
        )}
      </fieldset>
      <fieldset class="choices categories">
        <legend>${t.categories}</legend>
        ${all.map(
          (name) => html`
            <label class="chip">
              <input type="checkbox" value=${name} checked=${categories.includes(name)} onChange=${() => toggle(name)} />
              <span>${t.category[name]}</span>
            </label>
          `,
        )}
      </fieldset>
      <label for="${id}-text">${t.text}</label>
      <textarea id="${id}-text" rows="2" value=${text} onInput=${(/** @type {any} */ event) => setText(event.target.value)}></textarea>
      <div class="pictures" role="group" aria-label=${t.photos}>
        ${pictures.length > 0 &&
        html`<ul>${pictures.map(
          (picture, index) => html`
            <${Chosen} key=${picture} picture=${picture} number=${index + 1} remove=${() => setPictures((before) => before.filter((other) => other !== picture))} />
          `,
        )}</ul>`}
        <button type="button" class="quiet" onClick=${async () => {
          const drawn = await landscape()
          setPictures((before) => [...before, drawn])
        }}>${t.drawPhoto}</button>
        <label class="file quiet">
          ${t.addPhotos}
          <input type="file" accept="image/*" multiple aria-label=${t.addPhotos} onChange=${(/** @type {any} */ event) => {
            const added = [...event.target.files]
            setPictures((before) => [...before, ...added])
          }} />
        </label>
      </div>
      <label class="check"><input type="checkbox" checked=${isPublic} onChange=${() => setPublic((before) => !before)} />${t.isPublic}</label>
      <button class="main" type="submit" disabled=${busy || categories.length === 0}>${t.savePost}</button>
      <${Failure} text=${failure} />
    </form>
  `
}
