/** Tells whoever listens; the handlers of one name are called in the order in which they came. */
export class Emitter {
  #handlers = new Map();

  /** Calls `handler(value)` at each `emit(name, value)`; returns what ends that. */
  on(name, handler) {
    const known = this.#handlers.get(name) ?? new Set();
    this.#handlers.set(name, known);
    known.add(handler);
    return () => known.delete(handler);
  }

  emit(name, value) {
    for (const handler of [...(this.#handlers.get(name) ?? [])]) {
      try {
        handler(value);
      } catch (error) {
        // One view's fault must not keep the others from hearing.
        console.error(error);
      }
    }
  }
}
