/** The happiness of a month as bars. */

import UPlot from './vendor/uplot.js'
import { html, useEffect, useRef } from './view.js'

const HEIGHT = 132

/** Returns a colour of the style sheet. @param {string} name */
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

/**
 * Draws one bar a day, in the colours of the theme, as wide as its place.
 * @param {{ days: { happiness: number, formattedDate: string }[], label: string }} properties
 */
export function HappinessPlot({ days, label }) {
  const place = useRef(/** @type {HTMLElement | null} */ (null))
  useEffect(() => {
    const element = place.current
    if (!element) return undefined
    /** @type {any} */
    let plot
    const draw = () => {
      plot?.destroy()
      plot = new /** @type {any} */ (UPlot)(options(element.clientWidth, days.length), dataOf(days), element)
    }
    draw()
    const theme = matchMedia('(prefers-color-scheme: dark)')
    theme.addEventListener('change', draw)
    const resized = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: HEIGHT }))
    resized.observe(element)
    return () => {
      theme.removeEventListener('change', draw)
      resized.disconnect()
      plot.destroy()
    }
  }, [days])
  return html`<div class="plot" role="img" aria-label=${label} ref=${place}></div>`
}

/** @param {{ happiness: number, formattedDate: string }[]} days */
function dataOf(days) {
  return [days.map((day) => Number(day.formattedDate)), days.map((day) => day.happiness || null)]
}

/** @param {number} width @param {number} count */
function options(width, count) {
  const axis = { stroke: colour('--quiet'), font: '11px system-ui, sans-serif', ticks: { show: false } }
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
