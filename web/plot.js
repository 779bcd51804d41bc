/** Plots: the happiness of a month as bars, and lines over time. */

import UPlot from './vendor/uplot.js'
import { html, useEffect, useMemo, useRef } from './view.js'

const HEIGHT = 132
const FONT = '11px system-ui, sans-serif'

/** Returns a colour of the style sheet. @param {string} name */
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

/**
 * Keeps a plot in an element, as wide as its place and in the colours of the theme.
 * @param {number} height
 * @param {(width: number) => any} optionsOf
 * @param {any[]} data
 */
function usePlot(height, optionsOf, data) {
  const place = useRef(/** @type {HTMLElement | null} */ (null))
  const plot = useRef(/** @type {any} */ (null))
  const newest = useRef({ optionsOf, data })
  newest.current = { optionsOf, data }
  useEffect(() => {
    const element = place.current
    if (!element) return undefined
    const draw = () => {
      plot.current?.destroy()
      plot.current = new /** @type {any} */ (UPlot)(newest.current.optionsOf(element.clientWidth), newest.current.data, element)
    }
    draw()
    const theme = matchMedia('(prefers-color-scheme: dark)')
    theme.addEventListener('change', draw)
    const resized = new ResizeObserver(() => plot.current.setSize({ width: element.clientWidth, height }))
    resized.observe(element)
    return () => {
      theme.removeEventListener('change', draw)
      resized.disconnect()
      plot.current.destroy()
    }
  }, [])
  useEffect(() => plot.current?.setData(data), [data])
  return place
}

/**
 * Draws one bar a day.
 * @param {{ days: { happiness: number, formattedDate: string }[], label: string }} properties
 */
export function HappinessPlot({ days, label }) {
  const data = useMemo(() => dataOf(days), [days])
  const place = usePlot(HEIGHT, (width) => options(width, days.length), data)
  return html`<div class="plot" role="img" aria-label=${label} ref=${place}></div>`
}

/** The colours of lines, by the order of their names. */
export const LINES = ['--phone-5', '--phone-1', '--phone-2', '--phone-3', '--phone-4']

/**
 * Draws lines over time.
 * @param {{ times: number[], lines: (number | null)[][], label: string }} properties times in seconds
 */
export function LinesPlot({ times, lines, label }) {
  const data = useMemo(() => [times, ...lines], [times])
  const place = usePlot(HEIGHT, (width) => lineOptions(width, lines.length), data)
  return html`<div class="plot" role="img" aria-label=${label} ref=${place}></div>`
}

/** Minutes and seconds. @param {any} _plot @param {number[]} times */
const clockTimes = (_plot, times) => times.map((time) => new Date(time * 1000).toTimeString().slice(3, 8))

/** @param {number} width @param {number} count */
function lineOptions(width, count) {
  const axis = { stroke: colour('--quiet'), font: FONT, ticks: { show: false }, grid: { stroke: colour('--line'), width: 1 } }
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: { y: { range: (/** @type {any} */ _plot, /** @type {number} */ _low, /** @type {number} */ high) => [0, Math.max(1, (high ?? 0) * 1.1)] } },
    axes: [{ ...axis, size: 22, gap: 2, values: clockTimes }, { ...axis, size: 44, gap: 2 }],
    series: [{}, ...LINES.slice(0, count).map((name) => ({ stroke: colour(name), width: 1.5, points: { show: false }, spanGaps: true }))],
  }
}

/** @param {{ happiness: number, formattedDate: string }[]} days */
function dataOf(days) {
  return [days.map((day) => Number(day.formattedDate)), days.map((day) => day.happiness || null)]
}

/** @param {number} width @param {number} count */
function options(width, count) {
  const axis = { stroke: colour('--quiet'), font: FONT, ticks: { show: false } }
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: false, range: [0.4, count + 0.6] }, y: { range: [0, 5.2] } },
    axes: [
      { ...axis, size: 22, gap: 2, grid: { show: false }, splits: () => [1, 5, 10, 15, 20, 25, 30].filter((day) => day <= count) },
      { ...axis, size: 24, gap: 2, grid: { stroke: colour('--line'), width: 1 }, splits: () => [1, 3, 5] },
    ],
    series: [
      {},
      {
        fill: colour('--bar'),
        width: 0,
        points: { show: false },
        paths: /** @type {any} */ (UPlot).paths.bars({ size: [0.66, 14], radius: 0.35 }),
      },
    ],
  }
}
