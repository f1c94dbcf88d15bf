// Looks on from inside a page, before the page's own scripts run: what the player tells, and what hls.js is given.

window.observed = (() => {
  const PIECE_BYTES = 64 * 1024;
  const told = { errors: [], events: [], renditions: [], latency: null, welcome: null };
  const played = [];
  const latencies = [];
  let player;

  const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, '0')).join('');
  const base64 = (bytes) => {
    let text = '';
    for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
    return btoa(text);
  };

  function onplayed({ kind, url }, bytes) {
    const path = new URL(url).pathname.split('/').slice(3).join('/');
    const entry = { kind, path, at: performance.now() };
    if (kind !== 'part') {
      entry.bytes = base64(bytes);
      played.push(entry);
      return;
    }
    // The digest takes its copy before it returns.
    const hashes = [];
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      hashes.push(crypto.subtle.digest('SHA-256', bytes.subarray(at, at + PIECE_BYTES)).then(hex));
    }
    entry.waits = Promise.all(hashes).then((pieces) => (entry.pieces = pieces));
    played.push(entry);
  }

  function watch(element) {
    player = element;
    element.onplayed = onplayed;
    element.addEventListener('ms-error', ({ detail }) => told.errors.push(`${detail.name}${detail.code ? ` ${detail.code}` : ''}: ${detail.message}`));
    for (const name of ['ms-mode', 'ms-edge', 'ms-bad-piece', 'ms-paid']) {
      element.addEventListener(name, ({ detail }) => told.events.push({ name, at: Math.round(performance.now()), ...detail }));
    }
    element.addEventListener('ms-stats', ({ detail }) => {
      const { rendition, latencyMs } = detail;
      if (rendition !== undefined && told.renditions.at(-1) !== rendition) told.renditions.push(rendition);
      if (latencyMs !== undefined) latencies.push(latencyMs);
      // The median of the last ten seconds.
      const last = latencies.slice(-10).sort((a, b) => a - b);
      if (last.length > 0) told.latency = Math.round(last[last.length >> 1]);
      if (!element.hls.observed) {
        element.hls.observed = true;
        element.hls.on('hlsError', (_, { details, fatal, error }) => told.events.push({ name: 'hls-error', at: Math.round(performance.now()), details, fatal, message: String(error?.message) }));
      }
    });
  }

  // On a stream that is not public the origin wants the token of whoever watches.
  window.WebSocket = class extends WebSocket {
    constructor(...options) {
      super(...options);
      this.addEventListener('message', ({ data }) => {
        const { type, token } = JSON.parse(data);
        if (type === 'welcome') told.welcome = { token };
      });
    }
  };

  const define = customElements.define.bind(customElements);
  customElements.define = (name, Class, options) => {
    if (name === 'millstream-player') {
      const connected = Class.prototype.connectedCallback;
      Class.prototype.connectedCallback = function () {
        watch(this);
        return connected.call(this);
      };
    }
    return define(name, Class, options);
  };

  return {
    told,
    latencies,
    stats: () => player?.stats,
    now() {
      const { rendition = null, stalls, bufferMs, bitsPerSecond, bytes } = player?.stats ?? {};
      return { rendition, renditions: told.renditions, stalls, bufferMs, bitsPerSecond, bytes };
    },
    player: () => player,
    async drain() {
      const entries = played.splice(0);
      await Promise.all(entries.map(({ waits }) => waits));
      return entries.map(({ waits, ...entry }) => entry);
    },
  };
})();
