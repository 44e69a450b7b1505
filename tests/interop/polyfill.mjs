// js-libp2p uses this function of Node 22; here it is for Node 20 (node --import ./polyfill.mjs).
Promise.withResolvers ??= function withResolvers () {
  let resolve, reject
  const promise = new this((ok, fail) => { resolve = ok; reject = fail })
  return { promise, resolve, reject }
}
