/** Dates as the API writes them: `yyyyMMddHHmmssSS`, a 16-digit number in local time. */

const two = (/** @type {number} */ number) => String(number).padStart(2, '0')

/** Returns a moment as the API writes it. @param {Date} [moment] @returns {number} */
export function stamp(moment = new Date()) {
  const { hours, minutes, seconds, hundredths } = {
    hours: moment.getHours(),
    minutes: moment.getMinutes(),
    seconds: moment.getSeconds(),
    hundredths: Math.floor(moment.getMilliseconds() / 10),
  }
  return Number(isoDay(moment).replaceAll('-', '') + two(hours) + two(minutes) + two(seconds) + two(hundredths))
}

/** Returns the local day as `yyyy-MM-dd`. @param {Date} [moment] */
export function isoDay(moment = new Date()) {
  return `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`
}

/** Returns the moment of a date of the API. @param {number} date */
export function moment(date) {
  const part = (/** @type {number} */ from, /** @type {number} */ length) => Number(String(date).slice(from, from + length))
  return new Date(part(0, 4), part(4, 2) - 1, part(6, 2), part(8, 2), part(10, 2), part(12, 2), part(14, 2) * 10)
}

/** Returns the day of the month. @param {number} date */
export function dayOf(date) {
  return Number(String(date).slice(6, 8))
}
