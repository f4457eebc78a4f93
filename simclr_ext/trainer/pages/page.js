// What surrounds the map of map.html: the image under the pointer, the selected image and its
// neighbors, the search, and the legend. Names are set as text, never parsed as HTML.
"use strict";

const LISTED = 30; // search results that are listed
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent); // pages/map.py says what is in it
const { names, classes, classNames, colors, neighbors, sheet } = data;
const className = (image) => classNames[classes[image]];
const map = new PointMap(byId("map"), data, showTip, select);

function element(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

/** An image, cut from its sheet; without a name for screen readers if text beside it has it. */
function thumbnail(image, name = "") {
  const { columns, rows } = sheet, cell = image % (columns * rows);
  const number = Math.floor(image / (columns * rows));
  const made = element("span", { className: `thumb sheet${number}` });
  const x = (cell % columns) / (columns - 1), y = Math.floor(cell / columns) / (rows - 1);
  made.style.backgroundPosition = `${100 * x}% ${100 * y}%`;
  if (name) Object.assign(made, { role: "img", ariaLabel: name });
  return made;
}

/** A button that selects an image; kind: "same" or "other", how its class compares, or none. */
function imageButton(image, kind = "") {
  const label = (kind === "other" ? "\u2260 " : "") + className(image);
  const text = element("span", {}, names[image], element("small", {}, label));
  const made = element("button", { className: kind }, thumbnail(image), text);
  made.onclick = () => {
    select(image);
    map.reveal(image);
  };
  return made;
}

function showTip(image, x, y) {
  const tip = byId("tip"), stage = byId("stage");
  tip.hidden = image < 0;
  if (tip.hidden) return;
  const text = element("span", {}, names[image], element("small", {}, className(image)));
  tip.replaceChildren(thumbnail(image, names[image]), text);
  const left = x + 16 + tip.offsetWidth < stage.clientWidth ? x + 16 : x - 16 - tip.offsetWidth;
  const top = Math.min(y - tip.offsetHeight / 2, stage.clientHeight - tip.offsetHeight);
  tip.style.left = `${Math.max(0, left)}px`;
  tip.style.top = `${Math.max(0, top)}px`;
}

/** Shows an image and its nearest neighbors; -1: none. */
function select(image) {
  map.selected = image;
  map.redraw();
  byId("selection").replaceChildren();
  if (image < 0) return;
  const list = element("ol", { className: "images" });
  for (const neighbor of neighbors[image]) {
    const known = Math.max(classes[image], classes[neighbor]) < data.labels;
    const kind = !known ? "" : classes[image] === classes[neighbor] ? "same" : "other";
    list.append(element("li", {}, imageButton(neighbor, kind)));
  }
  const text = element("p", {}, names[image], element("small", {}, className(image)));
  const chosen = element("div", { className: "chosen" }, thumbnail(image, names[image]), text);
  byId("selection").append(chosen, element("h2", {}, "Nearest neighbors"), list);
  byId("selection").scrollIntoView({ block: "start" });
}

function find() {
  const text = byId("search").value.trim().toLowerCase();
  map.matches = text ? names.map((name) => name.toLowerCase().includes(text)) : null;
  map.redraw();
  const images = [...names.keys()].filter((image) => map.matches?.[image]);
  const exact = (image) => names[image].toLowerCase() === text;
  images.sort((a, b) => exact(b) - exact(a)); // the sort is stable
  const listed = images.slice(0, LISTED).map((image) => element("li", {}, imageButton(image)));
  byId("results").replaceChildren(...listed);
  const rest = images.length > LISTED ? `; the first ${LISTED} are listed` : "";
  const numbers = [images.length, names.length].map((number) => number.toLocaleString("en-US"));
  byId("found").textContent = text ? `${numbers[0]} of ${numbers[1]} images match${rest}` : "";
}

function symbol(label) {
  const [svg, shape] = ["svg", "polygon"].map((tag) =>
    document.createElementNS("http://www.w3.org/2000/svg", tag));
  svg.setAttribute("viewBox", "-1.2 -1.2 2.4 2.4");
  svg.setAttribute("aria-hidden", "true");
  shape.setAttribute("points", outline(label, colors).join(" "));
  shape.setAttribute("fill", colors[label % colors.length]);
  svg.append(shape);
  return svg;
}

function showClasses(labels, on) {
  for (const label of labels) boxes[label].checked = map.shown[label] = on;
  map.redraw();
}

const sizes = classNames.map(() => 0);
classes.forEach((label) => sizes[label]++);
const boxes = classNames.map((name, label) => {
  const box = element("input", { type: "checkbox", checked: true });
  box.onchange = () => showClasses([label], box.checked);
  const size = element("small", {}, sizes[label].toLocaleString("en-US"));
  byId("legend").append(element("label", {}, box, symbol(label), element("span", {}, name), size));
  return box;
});

byId("search").oninput = find;
byId("search").onkeydown = (event) => {
  if (event.key === "Enter") byId("results").querySelector("button")?.click();
};
byId("all").onclick = () => showClasses(boxes.keys(), true);
byId("none").onclick = () => showClasses(boxes.keys(), false);
byId("closer").onclick = () => map.zoom(1.5);
byId("farther").onclick = () => map.zoom(1 / 1.5);
byId("fit").onclick = () => map.showAll();
