/** Requests of operators. The token stays in the memory of this page, and is sent as a bearer token only. */

import { ApiError } from '../api.js'

let token = ''

/** @param {string} given */
export function useToken(given) {
  token = given.trim()
}

/** Whether an operator has given a token. */
export const isOperator = () => token !== ''

/** The services, in the order of the page; the names are those of their metrics. */
export const SERVICES = ['config-service', 'auth-service', 'feed-service', 'dm-service', 'notice-service']

/**
 * Calls a path below `/operator`, and returns the response if it succeeded.
 * @param {string} path
 * @param {string} [method]
 * @param {any} [body]
 */
async function send(path, method = 'GET', body = undefined) {
  const headers = { Authorization: `Bearer ${token}`, ...(body && { 'Content-Type': 'application/json' }) }
  const response = await fetch(`/operator/${path}`, { method, headers, body: body && JSON.stringify(body), credentials: 'omit', cache: 'no-store' })
  if (response.ok) return response
  throw new ApiError(response.status, await response.json().catch(() => null))
}

/** Returns an answer as text. @param {string} path */
export const text = async (path) => (await send(path)).text()

/** Returns an answer as an object, or null when it is empty. @param {string} path @param {string} [method] @param {any} [body] @returns {Promise<any>} */
export async function json(path, method, body) {
  const answer = await (await send(path, method, body)).text()
  return answer === '' ? null : JSON.parse(answer)
}
