/** The language of the page. */

import { Store } from '../store.js'
import en from './en.js'
import ko from './ko.js'

/** @typedef {{ [key: string]: string | Entries | ((...values: any[]) => string) }} Entries */

/** Each language has the same texts. @type {Record<'ko' | 'en', typeof en>} */
const LANGUAGES = { ko, en }
/** @typedef {Record<string, any>} Texts looked up by keys that are made at run time too */
const KEY = 'language'

class Language extends Store {
  constructor() {
    super()
    const preferred = navigator.language.startsWith('ko') ? 'ko' : 'en'
    const kept = localStorage.getItem(KEY) ?? preferred
    this.code = kept in LANGUAGES ? kept : preferred
    document.documentElement.lang = this.code
  }

  /** @param {string} code `ko` or `en` */
  choose(code) {
    this.code = code
    localStorage.setItem(KEY, code)
    document.documentElement.lang = code
    this.changed()
  }
}

export const language = new Language()

/** Returns the texts of the language that is chosen now. @returns {Texts} */
export const texts = () => LANGUAGES[/** @type {'ko' | 'en'} */ (language.code)]
