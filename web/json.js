/** JSON with 63-bit image ids. */

/**
 * Parses JSON. Integers beyond 2^53 (image ids) become strings, since a number would lose their last digits.
 * @param {string} text
 * @returns {any}
 */
export function parse(text) {
  const reviver = (/** @type {string} */ _key, /** @type {any} */ value, /** @type {any} */ context) =>
    typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value) ? context.source : value
  return JSON.parse(text, /** @type {any} */ (reviver))
}
