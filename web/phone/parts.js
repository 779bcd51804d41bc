/** Parts that several screens share. */

import { texts } from '../i18n/index.js'
import { html, useEffect, useState } from '../view.js'

/**
 * Runs an action at a time, and keeps what it failed with.
 * @returns {{ busy: boolean, failure: string, run: (action: () => Promise<any>) => Promise<void> }}
 */
export function useAction() {
  const [busy, setBusy] = useState(false)
  const [failure, setFailure] = useState('')
  const run = async (/** @type {() => Promise<any>} */ action) => {
    setBusy(true)
    setFailure('')
    try {
      await action()
    } catch (error) {
      setFailure(texts().failed(error instanceof Error ? error.message : String(error)))
    }
    setBusy(false)
  }
  return { busy, failure, run }
}

/**
 * Loads a value when the screen opens and when an input changes.
 * @template T
 * @param {() => Promise<T>} load
 * @param {any[]} inputs
 * @returns {{ value: T | null, failure: string, reload: () => void, set: (value: T) => void }}
 */
export function useLoaded(load, inputs) {
  const [state, setState] = useState({ value: /** @type {T | null} */ (null), failure: '' })
  const [turn, setTurn] = useState(0)
  useEffect(() => {
    let current = true
    load().then(
      (value) => current && setState({ value, failure: '' }),
      (error) => current && setState((before) => ({ ...before, failure: texts().failed(error.message) })),
    )
    return () => {
      current = false
    }
  }, [...inputs, turn])
  return { ...state, reload: () => setTurn((before) => before + 1), set: (value) => setState({ value, failure: '' }) }
}

/** @param {{ text: string }} properties */
export const Failure = ({ text }) => html`<p class="failure" role="alert">${text}</p>`

/** A person's photo; the name stands beside it. @param {{ session: import('../session.js').Session, nickname: string }} properties */
export function Avatar({ session, nickname }) {
  const [url, setUrl] = useState(/** @type {string | null} */ (null))
  useEffect(() => {
    let current = true
    session.photo(nickname).then((found) => current && setUrl(found))
    return () => {
      current = false
    }
  }, [session, nickname])
  return html`<span class="avatar">${url && html`<img src=${url} alt="" width="40" height="40" />`}</span>`
}

/** The local URL of a picture that is not sent yet. @param {Blob | null} blob */
export function useBlobUrl(blob) {
  const [url, setUrl] = useState('')
  useEffect(() => {
    if (!blob) return setUrl('')
    const made = URL.createObjectURL(blob)
    setUrl(made)
    return () => URL.revokeObjectURL(made)
  }, [blob])
  return url
}
