// What `wasm-plugin.mjs` makes of a module: deflated, as base64.
declare module '*.wasm?deflated' {
  const deflatedBase64: string;
  export default deflatedBase64;
}
