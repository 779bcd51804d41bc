/** The view library as one module: Preact with its hooks, and htm bound to it. */

import * as preact from './vendor/preact.js'
import * as hooks from './vendor/hooks.js'
import htm from './vendor/htm.js'

/** @type {any} */
const library = { ...preact, ...hooks }

/** Renders a template string as a view: html`<p>${text}</p>`. @type {(strings: TemplateStringsArray, ...values: any[]) => any} */
export const html = /** @type {any} */ (htm).bind(library.h)
/** @type {(view: any, into: Element) => void} */
export const render = library.render
/** @type {<T>(initial: T | (() => T)) => [T, (next: T | ((before: T) => T)) => void]} */
export const useState = library.useState
/** @type {(effect: () => void | (() => void), inputs?: any[]) => void} */
export const useEffect = library.useEffect
/** @type {<T>(initial: T) => { current: T }} */
export const useRef = library.useRef
/** @type {<T>(make: () => T, inputs: any[]) => T} */
export const useMemo = library.useMemo
/** @type {() => string} */
export const useId = library.useId
