// The map of map.html on a canvas: draws the points, moves the view, finds the point under a pointer.
// docs/adr/0012-map-on-a-canvas.md says why no plotting library does it.
"use strict";

const REACH = 14; // distance in CSS pixels at which a mouse finds a point; a finger: twice that
const STILL = 6; // a pointer that went farther than this, in CSS pixels, has not clicked
const MARGIN = 24; // CSS pixels around the whole map
const CLOSEST = 200; // greatest scale, relative to the whole map
const FAINT = 1 / 8; // opacity of points that are not searched for

/**
 * A map of n points. After a change of `shown`, `matches` or `selected`, call redraw().
 *
 * onhover(point, left, top) and onselect(point) are called for the user's actions, -1: no point.
 */
class PointMap {
  shown = []; // of each class, whether it is drawn
  matches = null; // [n] booleans: the others are dimmed; null: none is
  selected = -1;
  hovered = -1;
  #view = { x: 0, y: 0, scale: 1 }; // a position p is drawn at (x, y) + scale * p, CSS pixels
  #whole = { x: 0, y: 0, scale: 1 }; // the view of the whole map
  #fingers = new Map(); // pointers that are down, by id: where they are
  #moved = 0; // how far they went since the first came down
  #scheduled = false;
  #markers = [];
  #order; // of painting: mixed, so that no class covers the others

  /** positions [x0, y0, x1, ...] in [0, 1]; classes [n]; colors; neighbors [n][k]. */
  constructor(canvas, { positions, classes, colors, neighbors, classNames }, onhover, onselect) {
    Object.assign(this, { canvas, positions, classes, colors, neighbors, onhover, onselect });
    this.count = classes.length;
    this.shown = classNames.map(() => true);
    const mixed = (point) => Math.imul(point, 0x9e3779b1) >>> 0; // a different number for each
    this.#order = Uint32Array.from(classes.keys()).sort((a, b) => mixed(a) - mixed(b));
    this.pen = canvas.getContext("2d", { willReadFrequently: true }); // kept where it is painted
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    canvas.onpointerdown = (event) => this.#down(event);
    canvas.onpointermove = (event) => this.#move(event);
    canvas.onpointerup = (event) => this.#up(event);
    canvas.onpointercancel = (event) => this.#fingers.delete(event.pointerId);
    canvas.onpointerleave = () => this.hover(-1);
    canvas.onwheel = (event) => this.#wheel(event);
    canvas.onkeydown = (event) => this.#key(event);
    this.#resize();
    new ResizeObserver(() => this.#resize()).observe(canvas);
  }

  // --- Drawing ---

  redraw() {
    if (!this.#scheduled) requestAnimationFrame(() => this.#draw());
    this.#scheduled = true;
  }

  #draw() {
    this.#scheduled = false;
    const { canvas, pen, matches, selected } = this, ratio = devicePixelRatio;
    const zoom = this.#view.scale / this.#whole.scale;
    const radius = Math.min(9, Math.max(3, 150 / Math.sqrt(this.count)) * zoom ** 0.3);
    const { color: ink, backgroundColor: paper } = getComputedStyle(canvas);
    const border = 2 * Math.ceil(radius * ratio) + 4; // so that markers at the canvas's edge fit in
    const image = new ImageData(canvas.width + 2 * border, canvas.height + 2 * border);
    const pixels = new Uint32Array(image.data.buffer);
    const [red, green, blue] = paper.match(/\d+/g);
    pixels.fill(0xff000000 | (blue << 16) | (green << 8) | red);
    this.#prepare(Math.round(2 * radius * ratio) / 2, ink);
    const visible = this.#order.filter((point) => this.shown[this.classes[point]]);
    const paintAll = (points, opacity) => this.#paint(points, pixels, image.width, border, opacity);
    if (matches) paintAll(visible.filter((point) => !matches[point]), FAINT);
    paintAll(matches ? visible.filter((point) => matches[point]) : visible, 1);
    const chosen = selected < 0 ? [] : [...this.neighbors[selected], selected];
    paintAll(chosen, 1); // again: above the others
    pen.putImageData(image, -border, -border);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.strokeStyle = ink;
    if (selected >= 0) this.#drawSelection(radius);
    if (this.hovered >= 0) this.#ring(this.hovered, radius + 4, 2);
  }

  /** Makes the markers, unless those of the last drawing will do. */
  #prepare(radius, edge) {
    if (this.#markers.key === `${radius} ${edge}`) return;
    this.#markers = makeMarkers(this.shown.length, this.colors, radius, edge);
    this.#markers.key = `${radius} ${edge}`;
  }

  /** Paints points into pixels of an image that is wider than the canvas by a border on each side. */
  #paint(points, pixels, width, border, opacity) {
    const { positions, classes } = this, markers = this.#markers, view = this.#view;
    const ratio = devicePixelRatio, scale = ratio * view.scale, height = pixels.length / width;
    const x0 = ratio * view.x + border, y0 = ratio * view.y + border, edge = border / 2;
    for (const point of points) {
      const x = Math.round(x0 + scale * positions[2 * point]);
      const y = Math.round(y0 + scale * positions[2 * point + 1]);
      if (x < edge || y < edge || x >= width - edge || y >= height - edge) continue;
      paint(pixels, width, markers[classes[point] % markers.length], x, y, opacity);
    }
  }

  #drawSelection(radius) {
    const { pen, selected } = this, neighbors = this.neighbors[selected];
    pen.lineWidth = 1;
    pen.beginPath();
    for (const neighbor of neighbors) {
      pen.moveTo(...this.place(selected));
      pen.lineTo(...this.place(neighbor));
    }
    pen.stroke();
    for (const neighbor of neighbors) this.#ring(neighbor, radius + 2, 1.5);
    this.#ring(selected, radius + 5, 3);
  }

  #ring(point, radius, width) {
    this.pen.lineWidth = width;
    this.pen.beginPath();
    this.pen.arc(...this.place(point), radius, 0, 2 * Math.PI);
    this.pen.stroke();
  }

  // --- The view ---

  /** Where a point is drawn, in CSS pixels from the canvas's corner. */
  place(point) {
    const { x, y, scale } = this.#view;
    return [x + scale * this.positions[2 * point], y + scale * this.positions[2 * point + 1]];
  }

  /** Fits the drawing to the canvas; what is in the middle stays there. */
  #resize() {
    const { canvas } = this, width = canvas.clientWidth, height = canvas.clientHeight;
    const view = this.#view, old = this.#whole, zoom = view.scale / old.scale;
    const x = (old.x + old.scale / 2 - view.x) / view.scale; // the position in the middle
    const y = (old.y + old.scale / 2 - view.y) / view.scale;
    const whole = Math.max(1, Math.min(width, height) - 2 * MARGIN);
    this.#whole = { x: (width - whole) / 2, y: (height - whole) / 2, scale: whole };
    const scale = zoom * whole;
    this.#view = { x: width / 2 - scale * x, y: height / 2 - scale * y, scale };
    canvas.width = width * devicePixelRatio;
    canvas.height = height * devicePixelRatio;
    this.#draw(); // at once: the canvas was cleared
  }

  pan(x, y) {
    this.#view.x += x;
    this.#view.y += y;
    this.redraw();
  }

  /** Multiplies the scale, within limits; what is at (x, y), or in the middle, stays there. */
  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const view = this.#view, whole = this.#whole.scale, old = view.scale;
    view.scale = whole * Math.min(CLOSEST, Math.max(0.5, (old * factor) / whole));
    view.x = x - ((x - view.x) * view.scale) / old;
    view.y = y - ((y - view.y) * view.scale) / old;
    this.redraw();
  }

  showAll() {
    this.#view = { ...this.#whole };
    this.redraw();
  }

  /** Brings a point into the middle if it is out of view. */
  reveal(point) {
    const [x, y] = this.place(point), { clientWidth: width, clientHeight: height } = this.canvas;
    if (x < 0 || y < 0 || x > width || y > height) this.pan(width / 2 - x, height / 2 - y);
  }

  /** The point that is drawn nearest to (x, y), within reach; -1: none is. */
  nearest(x, y, reach) {
    let best = -1, least = reach ** 2;
    for (let point = 0; point < this.count; point++) {
      if (!this.shown[this.classes[point]]) continue;
      const [left, top] = this.place(point), distance = (left - x) ** 2 + (top - y) ** 2;
      if (distance <= least) [best, least] = [point, distance];
    }
    return best;
  }

  // --- Pointers, wheel and keys ---

  hover(point) {
    if (point === this.hovered && point < 0) return;
    this.hovered = point;
    this.canvas.style.cursor = point < 0 ? "" : "pointer";
    this.onhover(point, ...(point < 0 ? [0, 0] : this.place(point)));
    this.redraw();
  }

  #down(event) {
    if (event.button > 0) return; // which opens a menu
    if (this.#fingers.size === 0) this.#moved = 0;
    this.canvas.setPointerCapture(event.pointerId);
    this.#fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.hover(-1);
  }

  #move({ pointerId, pointerType, offsetX: x, offsetY: y }) {
    const fingers = this.#fingers, from = fingers.get(pointerId);
    if (!from) {
      if (pointerType === "mouse") this.hover(this.nearest(x, y, REACH));
      return;
    }
    const dx = x - from[0], dy = y - from[1];
    this.#moved += Math.hypot(dx, dy);
    fingers.set(pointerId, [x, y]);
    this.pan(dx / fingers.size, dy / fingers.size); // as the fingers' mean
    if (fingers.size !== 2) return;
    const [, other] = [...fingers].find(([id]) => id !== pointerId);
    const apart = ([left, top]) => Math.max(1, Math.hypot(left - other[0], top - other[1]));
    this.zoom(apart([x, y]) / apart(from), (x + other[0]) / 2, (y + other[1]) / 2);
  }

  #up({ pointerId, pointerType, offsetX: x, offsetY: y }) {
    const pressed = this.#fingers.delete(pointerId);
    if (!pressed || this.#moved > STILL || this.#fingers.size > 0) return;
    this.onselect(this.nearest(x, y, pointerType === "mouse" ? REACH : 2 * REACH));
  }

  #wheel(event) {
    event.preventDefault(); // the page does not scroll
    const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 * event.deltaY : event.deltaY;
    const speed = event.ctrlKey ? 0.02 : 0.003; // two fingers on a touchpad arrive as Ctrl + wheel
    this.zoom(2 ** (-speed * pixels), event.offsetX, event.offsetY);
  }

  #key(event) {
    const actions = {
      ArrowLeft: () => this.pan(60, 0), ArrowRight: () => this.pan(-60, 0),
      ArrowUp: () => this.pan(0, 60), ArrowDown: () => this.pan(0, -60),
      "+": () => this.zoom(1.5), "=": () => this.zoom(1.5), "-": () => this.zoom(1 / 1.5),
      0: () => this.showAll(),
      Enter: () => this.onselect(this.hovered), Escape: () => this.onselect(-1),
    };
    if (!(event.key in actions) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[event.key]();
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.hover(this.nearest(width / 2, height / 2, Math.max(width, height)));
  }
}
