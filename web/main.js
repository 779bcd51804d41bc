/** The console: phones side by side with what travels between them and the services, and the page of operators. */

import { language, texts } from './i18n/index.js'
import { iconOf } from './icons.js'
import { Phone } from './phone/phone.js'
import { useStore } from './store.js'
import { html, render, useEffect, useState } from './view.js'
import { WirePanel } from './wire-panel.js'

const MOST_PHONES = 6
const NAMES = [['mina', 'kakao'], ['joon', 'google'], ['sora', 'apple'], ['tae', 'kakao'], ['yuna', 'google'], ['bin', 'apple']]

const KEY = 'phones'

/**
 * The person that a phone suggests, so that the first sign-in needs no typing. Kept while the tab is open.
 * @typedef {{ number: number, provider: string, email: string, nickname: string }} Suggestion
 */

/** @returns {Suggestion[]} */
const kept = () => JSON.parse(sessionStorage.getItem(KEY) ?? 'null') ?? [suggestion(1), suggestion(2)]

/** @param {number} number @returns {Suggestion} */
function suggestion(number) {
  const [name, provider] = NAMES[(number - 1) % NAMES.length]
  const tag = crypto.getRandomValues(new Uint16Array(1))[0].toString(16).padStart(4, '0')
  return { number, provider, email: `${name}-${tag}@example.com`, nickname: `${name}${tag}` }
}

function LanguageSwitch() {
  return html`
    <div class="switch" role="group" aria-label=${texts().language}>
      ${[['ko', '한국어'], ['en', 'English']].map(
        ([code, name]) => html`
          <button type="button" lang=${code} aria-pressed=${language.code === code} onClick=${() => language.choose(code)}>${name}</button>
        `,
      )}
    </div>
  `
}

/** The pages after the first one are loaded when they are opened. @type {Record<string, () => Promise<any>>} */
const PAGES = {
  operations: async () => (await import('./operations/page.js')).Operations,
  moderation: async () => (await import('./moderation/page.js')).Moderation,
}

/** The page that the address names after `#`; the phones without a known one. */
const pageOf = () => (location.hash.slice(1) in PAGES ? location.hash.slice(1) : 'phones')

/** Returns the open page, and its view once it is loaded. */
function usePage() {
  const [page, setPage] = useState(pageOf)
  const [views, setViews] = useState(/** @type {Record<string, any>} */ ({}))
  useEffect(() => {
    const turn = () => setPage(pageOf())
    addEventListener('hashchange', turn)
    return () => removeEventListener('hashchange', turn)
  }, [])
  useEffect(() => {
    PAGES[page]?.().then((view) => setViews((before) => ({ ...before, [page]: view })))
  }, [page])
  return { page, View: views[page] }
}

function Console() {
  useStore(language)
  const { page, View } = usePage()
  const [phones, setPhones] = useState(kept)
  useEffect(() => sessionStorage.setItem(KEY, JSON.stringify(phones)), [phones])
  const t = texts()
  const add = () => setPhones((before) => [...before, suggestion(Math.max(0, ...before.map((phone) => phone.number)) + 1)])
  const remove = (/** @type {number} */ number) => setPhones((before) => before.filter((phone) => phone.number !== number))
  return html`
    <header class="top">
      <h1><img src="/icon.svg" alt="" width="30" height="30" />SoSoHappy</h1>
      <p class="tagline">${t.tagline}</p>
      <div class="tools">
        <nav class="switch" aria-label=${t.pages}>
          ${['phones', ...Object.keys(PAGES)].map(
            (name) => html`<a href="#${name}" aria-current=${page === name ? 'page' : undefined}>${t.page[name]}</a>`,
          )}
        </nav>
        <button type="button" class="quiet" disabled=${page !== 'phones' || phones.length >= MOST_PHONES} onClick=${add}>${iconOf('plus')}${t.addPhone}</button>
        <${LanguageSwitch} />
      </div>
    </header>
    <main class="stage" hidden=${page !== 'phones'}>
      <div class="phones">
        ${phones.map((phone) => html`<${Phone} key=${phone.number} ...${phone} close=${phones.length > 1 ? () => remove(phone.number) : null} />`)}
      </div>
      <${WirePanel} />
    </main>
    ${View && html`<${View} />`}
  `
}

const place = /** @type {Element} */ (document.getElementById('console'))
place.replaceChildren()
render(html`<${Console} />`, place)
