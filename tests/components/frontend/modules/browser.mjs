/** What the modules need of a browser while they are read; import it before them. */
const noop = () => {};
Object.assign(globalThis, {
  HTMLElement: class {},
  customElements: { define: noop },
  addEventListener: noop,
  matchMedia: () => ({ matches: false, addEventListener: noop }),
  document: { addEventListener: noop, createElement: () => ({}), adoptedStyleSheets: [] },
  location: { hash: "", host: "", protocol: "http:" },
  sessionStorage: { getItem: () => null },
});
globalThis.CSSStyleSheet ??= class { replaceSync() {} };
