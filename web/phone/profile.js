/** Nickname, introduction and photo. */

import { texts } from '../i18n/index.js'
import { blobOf, portrait } from '../picture.js'
import { html, useEffect, useId, useState } from '../view.js'
import { Failure, useAction, useBlobUrl } from './parts.js'

/**
 * A new profile begins with a suggestion; with `done`, the profile that is there is edited.
 * @param {{ session: import('../session.js').Session, nickname: string, done?: () => void }} properties
 */
export function Profile({ session, nickname, done }) {
  const t = texts()
  const id = useId()
  const [name, setName] = useState(nickname)
  const [introduction, setIntroduction] = useState(done ? '' : t.introductionSample)
  const [photo, setPhoto] = useState(/** @type {Blob | null} */ (null))
  const { busy, failure, run } = useAction()
  const url = useBlobUrl(photo)
  useEffect(() => {
    const current = done ? session.photo(nickname) : Promise.resolve(null)
    const drawn = current.then((url) => (url ? blobOf(url) : portrait(nickname)))
    drawn.then((picture) => setPhoto((before) => before ?? picture))
    if (done) session.introduction(nickname).then(setIntroduction, () => {})
  }, [])
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault()
    run(async () => {
      if (!(await session.setProfile(name, introduction, photo))) throw new Error(t.nicknameTaken)
      done?.()
    })
  }
  return html`
    <form class="screen welcome" onSubmit=${submit}>
      <h3>${t.profile}</h3>
      <p class="hint">${t.profileHint}</p>
      <span class="avatar big">${url && html`<img src=${url} alt=${t.profilePhoto} width="96" height="96" />`}</span>
      <label class="file quiet">
        ${t.chooseFile}
        <input type="file" accept="image/*" aria-label=${t.profilePhoto} onChange=${(/** @type {any} */ event) => setPhoto(event.target.files[0] ?? photo)} />
      </label>
      <label for="${id}-nickname">${t.nickname}</label>
      <input id="${id}-nickname" required autocomplete="off" aria-describedby="${id}-hint" value=${name} onInput=${(/** @type {any} */ event) => setName(event.target.value)} />
      <p class="hint" id="${id}-hint">${t.nicknameHint}</p>
      <label for="${id}-introduction">${t.introduction}</label>
      <input id="${id}-introduction" autocomplete="off" value=${introduction} onInput=${(/** @type {any} */ event) => setIntroduction(event.target.value)} />
      <button class="main" type="submit" disabled=${busy}>${t.save}</button>
      <${Failure} text=${failure} />
    </form>
  `
}
