// Watches a stream on its watch page as a viewer does, and says how it went.
//
//   node watch.mjs '{"url": "http://…/watch/demo", "seconds": 30, "browser": "chromium", "warmup": 5}'
//
// Prints one line of JSON at the end: stalls, latency, bytes by source (and at `warmup` seconds), pieces, and how many of
// the parts that hls.js was given are not what the packager signed. That is judged here, by `signed.mjs`, from the
// origin's signed records. Further members of the argument:
//   before   JavaScript to be run before the page's, to take something away from the browser
//   actions  [{at, run}]: JavaScript to be run in the page after `at` seconds
//   until    names of renditions: it ends 5 s after these were the last ones played, one after the other, if that is sooner
//   progress true: a line of JSON each second: what is played, and how
//   sdk      a folder whose files stand in for the tracker's under /sdk/ (Chromium alone)

import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { launch, run } from './launch.mjs';
import { Signed } from './signed.mjs';

/** Records are kept by the origin for a minute. */
const COLLECT_MS = 5_000;

const LINE_MS = 1_000;

/** What is watched after all that was waited for. */
const AFTER_MS = 5_000;

const OBSERVER = readFileSync(fileURLToPath(new URL('page/observe.js', import.meta.url)), 'utf8');

await run(async ({ url, seconds = 30, browser: name = 'chromium', warmup = 5, before, actions = [], sdk, until, progress }, closing) => {
  const [, stream] = /\/watch\/([^/?#]+)/.exec(url) ?? [];
  const { origin: tracker } = new URL(url);
  const errors = [];

  const { browser, close } = await launch(name, tracker);
  closing(close);
  const page = await browser.newPage();
  page.on('pageerror', (error) => errors.push(`page: ${error.message}`));
  page.on('console', (message) => process.env.MILLSTREAM_VERBOSE && console.error(message.type(), message.text()));
  await page.evaluateOnNewDocument(OBSERVER);
  if (before) await page.evaluateOnNewDocument(before);
  if (sdk) await replaceSdk(page, sdk);
  const began = Date.now();
  await page.goto(url, { waitUntil: 'domcontentloaded' });

  let signed;
  const played = [];
  const collect = async () => {
    played.push(...(await page.evaluate(() => window.observed.drain())));
    signed ??= await signedOf(tracker, stream, await page.evaluate(() => window.observed.told.welcome));
    await signed?.collect();
  };
  await page.waitForFunction(() => window.observed.told.welcome, { timeout: 2_000 }).catch(() => {});
  await collect();

  let atWarmup;
  let end = seconds * 1_000;
  let nextLine = 0;
  const plan = [...actions].sort((a, b) => a.at - b.at);
  for (let next = COLLECT_MS; ; ) {
    const passed = Date.now() - began;
    if (atWarmup === undefined && passed >= warmup * 1_000) atWarmup = await page.evaluate(() => window.observed.stats()?.bytes);
    while (plan[0] && passed >= plan[0].at * 1_000) await page.evaluate(plan.shift().run);
    if (passed >= next) {
      await collect();
      next += COLLECT_MS;
    }
    if (progress && passed >= nextLine) {
      const now = await page.evaluate(() => window.observed.now());
      console.log(JSON.stringify({ at_ms: passed, ...now }));
      if (until && until.join() === now.renditions.slice(-until.length).join()) end = Math.min(end, passed + AFTER_MS);
      nextLine = passed + LINE_MS;
    }
    if (passed >= end) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const { stats, ...seen } = await page.evaluate(() => ({ ...window.observed.told, stats: window.observed.stats() }));
  await collect();
  // The farewell, with the last vouchers.
  await page.evaluate(() => document.querySelector('millstream-player')?.remove());
  await new Promise((resolve) => setTimeout(resolve, 300));

  const judged = signed === undefined ? [] : played.map(({ path, pieces, bytes }) =>
    pieces ? signed.checkHashes(path, pieces) : signed.check(path, Buffer.from(bytes, 'base64')));
  const kinds = {};
  for (const { kind } of played) kinds[kind] = (kinds[kind] ?? 0) + 1;
  return {
    stalls: stats?.stalls ?? null,
    latency_ms: seen.latency,
    startup_ms: stats?.startupMs ?? null,
    bytes_at_warmup: atWarmup ?? null,
    bytes: stats?.bytes ?? null,
    pieces: stats?.pieces ?? null,
    vouchers: stats?.vouchers ?? null,
    played_parts: played.length,
    played: kinds,
    parts_hashed_wrong: judged.filter((right) => right === false).length,
    parts_not_judged: judged.filter((right) => right === undefined).length,
    unjudged: played.filter((_, at) => judged[at] === undefined).map(({ path }) => path),
    errors: [...errors, ...seen.errors],
    events: seen.events,
    edges: stats?.edges ?? [],
    rendition: stats?.rendition ?? null,
    renditions: seen.renditions,
    mode: stats?.mode ?? null,
  };
});

/** What the packager signs, once somebody publishes the stream and the page was let in. */
async function signedOf(tracker, stream, welcome) {
  const response = await fetch(`${tracker}/v1/watch/${stream}`);
  if (!response.ok || welcome === null) return undefined;
  const { origin, root } = await response.json();
  return new Signed(origin, stream, root, welcome.token);
}

async function replaceSdk(page, folder) {
  const devtools = await page.createCDPSession();
  await devtools.send('Fetch.enable', { patterns: [{ urlPattern: '*/sdk/*' }] });
  devtools.on('Fetch.requestPaused', ({ requestId, request }) => {
    const body = readFileSync(join(folder, basename(new URL(request.url).pathname))).toString('base64');
    const responseHeaders = [{ name: 'content-type', value: 'text/javascript' }];
    devtools.send('Fetch.fulfillRequest', { requestId, responseCode: 200, responseHeaders, body }).catch(() => {});
  });
}
