/** Sign-in with a provider. The provider's proof is `none`: the launcher's services accept everybody. */

import { texts } from '../i18n/index.js'
import { html, useId, useState } from '../view.js'
import { Failure, useAction } from './parts.js'

const PROVIDERS = ['kakao', 'google', 'apple']

/** @param {{ session: import('../session.js').Session, email: string, provider: string }} properties */
export function SignIn({ session, email, provider }) {
  const t = texts()
  const id = useId()
  const [address, setAddress] = useState(email)
  const [chosen, setChosen] = useState(provider)
  const { busy, failure, run } = useAction()
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault()
    run(() => session.signIn(address, chosen))
  }
  return html`
    <form class="screen welcome" onSubmit=${submit}>
      <img src="/icon.svg" alt="" width="84" height="84" />
      <h3>SoSoHappy</h3>
      <label for="${id}-email">${t.email}</label>
      <input id="${id}-email" type="email" required autocomplete="off" value=${address} onInput=${(/** @type {any} */ event) => setAddress(event.target.value)} />
      <fieldset class="choices">
        <legend>${t.provider}</legend>
        ${PROVIDERS.map(
          (name) => html`
            <label class="chip">
              <input type="radio" name="${id}-provider" value=${name} checked=${chosen === name} onChange=${() => setChosen(name)} />
              <span>${t.providers[name]}</span>
            </label>
          `,
        )}
      </fieldset>
      <button class="main" type="submit" disabled=${busy}>${t.signIn}</button>
      <p class="hint">${t.signInHint}</p>
      <${Failure} text=${failure} />
    </form>
  `
}
