/** Requests to the services, with the headers, encodings and re-issue of the app. */

import { parse } from './json.js'
import { wire } from './wire.js'

/** A response that is not 200, with the problem that the service states. */
export class ApiError extends Error {
  /** @param {number} status @param {any} problem RFC 9457 */
  constructor(status, problem) {
    super(problem?.detail || problem?.title || `HTTP ${status}`)
    this.status = status
    this.code = problem?.code
  }
}

/**
 * @typedef {object} Tokens
 * @property {string} account `email+provider`
 * @property {string} access with `Bearer ` before it
 * @property {string} refresh with `Bearer ` before it
 */

/** Sends the requests of one phone. */
export class Api {
  /** @param {number} phone the number of the phone */
  constructor(phone) {
    this.phone = phone
    /** @type {Tokens | null} */
    this.tokens = null
    /** The re-issue in flight, which concurrent requests share. @type {Promise<boolean> | null} */
    this.reissue = null
    /** Called when the session cannot be renewed. */
    this.expired = () => {}
  }

  /** Posts a form as `multipart/form-data`. @param {string} path @param {Record<string, any>} fields */
  post(path, fields) {
    return this.call(path, { method: 'POST', body: formOf(fields) })
  }

  /** @param {string} path @param {Record<string, any>} [query] */
  get(path, query = {}) {
    return this.call(`${path}?${new URLSearchParams(query)}`, { method: 'GET' })
  }

  /** Posts without credentials and returns the headers too. @param {string} path @param {Record<string, any>} fields */
  async open(path, fields) {
    const response = await this.send(path, { method: 'POST', body: formOf(fields) })
    return { headers: response.headers, body: await bodyOf(response) }
  }

  /**
   * Sends a signed request. On 403 the tokens are re-issued once and the request is sent again.
   * @param {string} path
   * @param {RequestInit} request
   */
  async call(path, request) {
    const signed = () => this.send(path, { ...request, headers: this.credentials() })
    const sentWith = this.tokens?.access
    let response = await signed()
    if (response.status === 403 && this.tokens) {
      // Another request may have renewed the tokens meanwhile.
      if (this.tokens.access !== sentWith || (await this.renew())) response = await signed()
    }
    return bodyOf(response)
  }

  credentials() {
    return { Authorization: this.tokens?.access ?? '', email: this.tokens?.account ?? '' }
  }

  /** Re-issues the tokens. Returns whether the session goes on. @returns {Promise<boolean>} */
  renew() {
    this.reissue ??= this.askForTokens().finally(() => {
      this.reissue = null
    })
    return this.reissue
  }

  async askForTokens() {
    if (!this.tokens) return false
    const { account, refresh } = this.tokens
    const headers = { email: account, 'Authorization-refresh': refresh }
    const response = await this.send('/auth-service/reIssueToken', { method: 'GET', headers })
    if (response.status === 200) {
      this.tokens = tokensOf(response.headers, account)
      return true
    }
    if (response.status === 401 || response.status === 403) this.expired()
    return false
  }

  /** Sends one request and adds its row. @param {string} path @param {RequestInit} request */
  async send(path, request) {
    const began = performance.now()
    const row = { phone: this.phone, kind: /** @type {const} */ ('request'), method: String(request.method), path: path.split('?')[0], key: wire.takeTap() }
    try {
      const response = await fetch(path, { ...request, credentials: 'omit', cache: 'no-store' })
      const requestId = response.headers.get('x-request-id') ?? undefined
      wire.add({ ...row, status: response.status, ms: performance.now() - began, requestId })
      return response
    } catch (error) {
      wire.add({ ...row, status: 0, ms: performance.now() - began })
      throw error
    }
  }
}

/** Returns the tokens of a response. @param {Headers} headers @param {string} [account] @returns {Tokens} */
export function tokensOf(headers, account) {
  return {
    account: account ?? headers.get('email') ?? '',
    access: headers.get('authorization') ?? '',
    refresh: headers.get('authorization-refresh') ?? '',
  }
}

/** @param {Record<string, any>} fields */
function formOf(fields) {
  const form = new FormData()
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof Blob) form.append(name, value, 'picture.png')
    else form.append(name, String(value))
  }
  return form
}

/** Returns the body of a 200: an object, or null when it is empty. @param {Response} response */
async function bodyOf(response) {
  const text = await response.text()
  if (response.status === 200) return text === '' ? null : parse(text)
  let problem = null
  try {
    problem = JSON.parse(text)
  } catch {
    // A proxy's page, not a problem of a service.
  }
  throw new ApiError(response.status, problem)
}
