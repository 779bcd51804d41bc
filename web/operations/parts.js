/** Panels and tables of the pages for operators and moderators. */

import { html } from '../view.js'

/** A table that scrolls sideways where it does not fit. @param {{ label: string, head: string[], rows: any[][] }} properties */
export function Table({ label, head, rows }) {
  return html`
    <div class="table" tabindex="0" role="region" aria-label=${label}>
      <table>
        <thead><tr>${head.map((name) => (name ? html`<th scope="col">${name}</th>` : html`<td></td>`))}</tr></thead>
        <tbody>${rows.map(([first, ...cells]) => html`<tr><th scope="row">${first}</th>${cells.map((cell) => html`<td>${cell}</td>`)}</tr>`)}</tbody>
      </table>
    </div>
  `
}

/** @param {{ id: string, title: string, hint?: string, children?: any }} properties */
export const Card = ({ id, title, hint, children }) => html`
  <section class="panel" data-panel=${id}>
    <h2>${title}</h2>
    ${hint && html`<p class="hint">${hint}</p>`} ${children}
  </section>
`
