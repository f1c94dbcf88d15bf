// Time to the first frame and distance to live: our player beside plain hls.js, turn by turn in one Chromium.
//
//   node first-frame.mjs '{"tracker", "origin", "stream", "verifyKey", "rounds": 5, "settle": 8, "seconds": 6}'
//
// Prints one line of JSON: for each round and each of the two `frame_ms`, `plays_ms`, `latency_ms`, `stood_ms`.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { launch, run } from '../../e2e/browser/launch.mjs';

const SDK = fileURLToPath(new URL('../../player-sdk/dist/millstream.full.js', import.meta.url));
const HLS = createRequire(import.meta.url).resolve('hls.js/dist/hls.min.js');

await run(async ({ tracker, origin, stream, verifyKey, rounds, settle, seconds }, closing) => {
  const pages = {
    '/swarm': html(`<script type="module" src="/millstream.js"></script>
      <millstream-player tracker="${tracker}" stream="${stream}" verify-key="${verifyKey}" autoplay muted></millstream-player>`),
    '/plain': html(`<script src="/hls.js"></script><video muted playsinline></video><script>
      const media = document.querySelector('video');
      window.hls = new Hls();
      hls.loadSource('${origin}/s/${stream}/index.m3u8');
      hls.attachMedia(media);
      media.play();</script>`),
    '/millstream.js': { type: 'text/javascript', body: readFileSync(SDK) },
    '/hls.js': { type: 'text/javascript', body: readFileSync(HLS) },
  };
  const server = createServer(({ url }, response) => {
    const { type, body } = pages[url] ?? {};
    if (!body) return response.writeHead(404).end();
    response.setHeader('content-type', type).end(body);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing(() => new Promise((resolve) => (server.close(resolve), server.closeAllConnections())));

  const { browser, close } = await launch();
  closing(close);
  const errors = [];
  const watch = async (name, settle, seconds) => {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    page.on('pageerror', (error) => errors.push(`${name}: ${error.message}`));
    await page.evaluateOnNewDocument(observe);
    await page.goto(`http://127.0.0.1:${server.address().port}/${name}`);
    await new Promise((resolve) => setTimeout(resolve, settle * 1_000));
    await page.evaluate(() => window.observed.keep());
    await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
    const seen = await page.evaluate(() => window.observed.seen());
    await context.close();
    return seen;
  };

  // One that is not counted: the first of a browser is slower.
  await watch('swarm', 2, 1);
  await watch('plain', 2, 1);
  const told = [];
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? ['swarm', 'plain'] : ['plain', 'swarm'];
    const seen = {};
    for (const name of order) seen[name] = await watch(name, settle, seconds);
    told.push(seen);
  }
  return { rounds: told, errors };
});

function html(body) {
  return { type: 'text/html', body: `<!doctype html><meta charset="utf-8"><title>first frame</title><style>video, millstream-player { width: 640px; height: 360px }</style>${body}` };
}

/** Runs in the page before its scripts: the same eye on both players. */
function observe() {
  const MOVED_S = 0.1;
  const seen = { frame_ms: null, plays_ms: null, stood_ms: 0 };
  let latencies;
  let from;
  let before;
  const player = () => document.querySelector('millstream-player');
  const hls = () => window.hls ?? player()?.hls;

  const look = setInterval(() => {
    const media = document.querySelector('video') ?? player()?.video;
    if (!media) return;
    clearInterval(look);
    media.requestVideoFrameCallback((now) => (seen.frame_ms = now));
    setInterval(() => {
      const now = performance.now();
      const at = media.currentTime;
      // The jump to where playback begins is no movement.
      if (from === undefined || at < from || at - from > 1) from = at;
      if (seen.plays_ms === null && !media.paused && at - from >= MOVED_S && seen.frame_ms !== null) seen.plays_ms = now;
      if (seen.plays_ms !== null && before && at === before.at) seen.stood_ms += now - before.now;
      before = { now, at };
    }, 20);
  }, 1);

  window.observed = {
    keep() {
      latencies = [];
      setInterval(() => {
        const date = hls()?.playingDate;
        if (date) latencies.push(Date.now() - date.getTime());
      }, 200);
    },
    seen() {
      latencies.sort((a, b) => a - b);
      const stats = player()?.stats;
      return { ...seen, latency_ms: latencies[latencies.length >> 1] ?? null, mode: stats?.mode ?? null, edge_bytes: stats?.bytes.edge ?? null };
    },
  };
}
