/** A value that views subscribe to. */

import { useEffect, useState } from './view.js'

/** Calls its listeners on each change. */
export class Store {
  constructor() {
    /** @type {Set<() => void>} */
    this.listeners = new Set()
  }

  /** @param {() => void} listener @returns {() => void} unsubscribes */
  subscribe(listener) {
    this.listeners.add(listener)
    return () => {
      this.listeners.delete(listener)
    }
  }

  changed() {
    for (const listener of this.listeners) listener()
  }
}

/** Renders the calling view again on each change of the store. @param {Store} store */
export function useStore(store) {
  const [, setVersion] = useState(0)
  useEffect(() => store.subscribe(() => setVersion((version) => version + 1)), [store])
}
