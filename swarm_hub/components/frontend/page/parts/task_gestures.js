/** How a picture of time is moved: by wheel, pinch, drag and keys. */
const PINCH_PX = 8;

/**
 * Has a canvas call `zoom(factor, x)`, `pan(pixels)`, `scroll(pixels)` (which returns whether it
 * could), `hover(x, y)` (with null when the pointer has left) and the functions of `keys`.
 */
export function addGestures(canvas, { zoom, pan, scroll, hover, keys }) {
  const pointers = new Map();
  const on = (names, handler) => {
    for (const name of names.split(" ")) {
      canvas.addEventListener(name, handler, { passive: false });
    }
  };
  // A plain wheel scrolls the page, unless somebody works in here.
  on("wheel", (event) => {
    const { deltaX, deltaY, ctrlKey, metaKey, shiftKey, offsetX } = event;
    const isUpright = Math.abs(deltaY) > Math.abs(deltaX) && !shiftKey;
    if (ctrlKey || metaKey || (isUpright && document.activeElement === canvas)) {
      zoom(Math.exp(deltaY * (ctrlKey ? 0.01 : 0.002)), offsetX);
    } else if (!isUpright) pan(deltaX || deltaY);
    else if (!scroll(deltaY)) return;
    event.preventDefault();
  });
  on("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
  on("pointerdown", ({ pointerId, offsetX: x, offsetY: y }) => {
    canvas.setPointerCapture(pointerId);
    pointers.set(pointerId, { x, y });
  });
  on("pointermove", ({ pointerId, offsetX: x, offsetY: y }) => {
    const was = pointers.get(pointerId);
    if (was === undefined) {
      hover(x, y);
      return;
    }
    const other = [...pointers].find(([id]) => id !== pointerId)?.[1];
    if (other === undefined) {
      pan(was.x - x);
      scroll(was.y - y);
    } else {
      const before = Math.abs(was.x - other.x);
      const now = Math.abs(x - other.x);
      if (before > PINCH_PX && now > PINCH_PX) zoom(before / now, (x + other.x) / 2);
    }
    pointers.set(pointerId, { x, y });
  });
  on("pointerup pointercancel", ({ pointerId }) => pointers.delete(pointerId));
  on("pointerleave blur", () => hover(null));
}
