/** Icons, drawn as lines in the colour of the text. All are decoration: the element around them carries the name. */

import { html } from './view.js'

/** @param {any} shapes */
const icon = (shapes) => html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">${shapes}</svg>`

const CLOUD = html`<path d="M7 18h10a4 4 0 0 0 .6-7.95A6 6 0 0 0 6.2 11 3.6 3.6 0 0 0 7 18Z" />`
const HIGH_CLOUD = html`<path d="M7 15h10a4 4 0 0 0 .6-7.95A6 6 0 0 0 6.2 8 3.6 3.6 0 0 0 7 15Z" />`

/** @type {Record<string, any>} */
const SHAPES = {
  today: html`<path d="M4 20h4L19 9l-4-4L4 16v4Z M13 7l4 4" />`,
  month: html`<path d="M4 6h16v14H4Z M4 10h16 M8 3v4 M16 3v4" />`,
  others: html`<path d="M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Z M15.5 8.5l-2 5-5 2 2-5Z" />`,
  messages: html`<path d="M4 5h16v11H10l-4 4v-4H4Z" />`,
  notices: html`<path d="M6 16V11a6 6 0 0 1 12 0v5l1.5 2h-15Z M10 21h4" />`,
  settings: html`<path d="M4 7h9 M17 7h3 M4 17h3 M11 17h9 M15 5v4 M9 15v4" />`,
  heart: html`<path d="M12 20S4 15 4 9.5A4.2 4.2 0 0 1 12 7a4.2 4.2 0 0 1 8 2.5C20 15 12 20 12 20Z" />`,
  bookmark: html`<path d="M7 4h10v16l-5-4-5 4Z" />`,
  comment: html`<path d="M4 5h16v11H10l-4 4v-4H4Z M8 9h8 M8 12h5" />`,
  follow: html`<path d="M10 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7Z M4 20a6 6 0 0 1 12 0 M19 8v6 M16 11h6" />`,
  back: html`<path d="M15 5l-7 7 7 7" />`,
  forward: html`<path d="M9 5l7 7-7 7" />`,
  refresh: html`<path d="M19 8A8 8 0 1 0 20 13 M19 3v5h-5" />`,
  block: html`<path d="M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Z M6 6l12 12" />`,
  close: html`<path d="M6 6l12 12 M18 6L6 18" />`,
  plus: html`<path d="M12 5v14 M5 12h14" />`,
  sunny: html`<circle cx="12" cy="12" r="4" /><path d="M12 3v2 M12 19v2 M3 12h2 M19 12h2 M5.6 5.6l1.4 1.4 M17 17l1.4 1.4 M5.6 18.4L7 17 M17 7l1.4-1.4" />`,
  partlyCloudy: html`<path d="M8 6.5a3.6 3.6 0 0 0-3.4 4.6 M8 2.5v1.2 M3.4 4.6l1 1 M1.8 9.5H3 M12.4 4.6l-.9.9" />${CLOUD}`,
  cloudy: CLOUD,
  rainy: html`${HIGH_CLOUD}<path d="M8 18l-1 3 M12.5 18l-1 3 M17 18l-1 3" />`,
  snowy: html`${HIGH_CLOUD}<path d="M8 18.5v.1 M12 18.5v.1 M16 18.5v.1 M10 21.5v.1 M14 21.5v.1" />`,
}

/** Returns an icon by its name. @param {string} name */
export const iconOf = (name) => icon(SHAPES[name])

const MOUTHS = ['M8 16.5q4-4 8 0', 'M8.3 16q3.7-2 7.4 0', 'M8.5 15.3h7', 'M8.2 14.6q3.8 3 7.6 0', 'M7.6 13.8q4.4 5.6 8.8 0Z']

/** Returns the face of a happiness. @param {number} level 1 to 5 */
export const face = (level) => html`
  <svg class="face face-${level}" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
    <circle cx="12" cy="12" r="10" />
    <path d="M8.6 9.6v.6 M15.4 9.6v.6" />
    <path d=${MOUTHS[Math.min(Math.max(level, 1), 5) - 1]} />
  </svg>
`
