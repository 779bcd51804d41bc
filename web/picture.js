/** Pictures drawn in the page, for whoever has no photo at hand. */

/** The side of the square that is drawn on, in units of the drawing. */
const SIZE = 480
const PORTRAIT_PIXELS = 192

/** @param {number} pixels of a side @param {(context: CanvasRenderingContext2D) => void} draw @returns {Promise<Blob>} a PNG */
function paint(pixels, draw) {
  const canvas = document.createElement('canvas')
  canvas.width = canvas.height = pixels
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'))
  context.scale(pixels / SIZE, pixels / SIZE)
  draw(context)
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error('no picture'))), 'image/png'),
  )
}

/** @param {CanvasRenderingContext2D} context @param {string[]} colours from top to bottom */
function fill(context, colours) {
  const gradient = context.createLinearGradient(0, 0, 0, SIZE)
  colours.forEach((colour, index) => gradient.addColorStop(index / (colours.length - 1), colour))
  context.fillStyle = gradient
  context.fillRect(0, 0, SIZE, SIZE)
}

/** Draws a profile photo: the first letter on a colour of its own. @param {string} name */
export function portrait(name) {
  const hue = [...name].reduce((sum, letter) => sum + (letter.codePointAt(0) ?? 0) * 37, 0) % 360
  return paint(PORTRAIT_PIXELS, (context) => {
    fill(context, [`hsl(${hue} 55% 62%)`, `hsl(${(hue + 40) % 360} 60% 48%)`])
    context.fillStyle = 'white'
    context.font = `600 ${SIZE / 2}px system-ui, sans-serif`
    context.textAlign = 'center'
    context.textBaseline = 'middle'
    context.fillText([...name][0]?.toUpperCase() ?? '', SIZE / 2, SIZE * 0.53)
  })
}

/** Returns the bytes of a `data:` URL. @param {string} url */
export function blobOf(url) {
  const bytes = Uint8Array.from(atob(url.slice(url.indexOf(',') + 1)), (letter) => letter.charCodeAt(0))
  return new Blob([bytes], { type: 'image/png' })
}

/** Draws a landscape: sky, sun and three ridges. A new one each time. */
export function landscape() {
  const hue = Math.floor(Math.random() * 360)
  return paint(SIZE, (context) => {
    fill(context, [`hsl(${hue} 60% 72%)`, `hsl(${(hue + 30) % 360} 75% 86%)`, 'hsl(35 90% 88%)'])
    context.fillStyle = 'hsl(45 100% 94%)'
    context.beginPath()
    context.arc(SIZE * (0.3 + Math.random() * 0.4), SIZE * 0.36, SIZE * 0.1, 0, Math.PI * 2)
    context.fill()
    for (let ridge = 0; ridge < 3; ridge += 1) {
      const phase = Math.random() * 6
      context.fillStyle = `hsl(${hue} ${32 + ridge * 6}% ${58 - ridge * 15}%)`
      context.beginPath()
      context.moveTo(0, SIZE)
      for (let x = 0; x <= SIZE; x += 8) {
        const wave = Math.sin(x / (90 - ridge * 14) + phase) + Math.sin(x / 37 + phase * 2) * 0.35
        context.lineTo(x, SIZE * (0.56 + ridge * 0.14) + wave * 24)
      }
      context.lineTo(SIZE, SIZE)
      context.fill()
    }
  })
}
