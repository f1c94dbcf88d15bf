// The contract with hls.js, held in real Chromium: docs/decisions/0002-hls-js-contract.md. Two renditions and separate
// audio, low-latency playlists, everything out of memory.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { open } from './browser.mjs';
import { fixture } from './fixture.mjs';

let chromium;

before(async () => {
  chromium = await open('/page/contract.html', { '/fixture': fixture() });
  await chromium.page.evaluate(() => window.begin());
  await played(3);
});
after(() => chromium?.close());

/** Waits until the playhead stands at `seconds` or later past where playback began. */
async function played(seconds) {
  await chromium.page.waitForFunction(
    (seconds) => {
      const video = document.getElementById('video');
      window.firstTime ??= video.currentTime > 0 ? video.currentTime : undefined;
      return window.firstTime !== undefined && video.currentTime - window.firstTime >= seconds;
    },
    { timeout: 40_000, polling: 100 },
    seconds,
  );
}

function state() {
  return chromium.page.evaluate(() => {
    const { swarm, errors, stalls, levels, hls } = window.contract;
    const { requests, blocked, wrong, playedBytes } = swarm;
    return { requests, blocked, wrong, playedBytes, errors, stalls: stalls.length, levels, latency: hls.latency,
      estimate: hls.bandwidthEstimate, position: document.getElementById('video').currentTime };
  });
}

test('plays parts near the live edge, each byte as it was signed', async () => {
  await played(8);
  const now = await state();
  assert.deepEqual(now.errors, []);
  assert.equal(now.stalls, 0);
  assert.equal(now.wrong, 0);
  assert.ok(now.requests.part > 20, `parts ${now.requests.part}`);
  assert.ok(now.blocked > 20, `blocking reloads ${now.blocked}`);
  assert.ok(now.playedBytes > 500_000, `bytes ${now.playedBytes}`);
  assert.ok(now.latency < 4.5, `latency ${now.latency}`);
});

test('takes the rendition that the swarm says the network can carry, down and up, without a stall', async () => {
  const switched = async (bitsPerSecond, name) => {
    await chromium.page.evaluate((bitsPerSecond) => (window.contract.swarm.bitsPerSecond = bitsPerSecond), bitsPerSecond);
    await chromium.page.waitForFunction((name) => window.contract.levels.at(-1)?.includes(name), { timeout: 20_000 }, name);
  };
  await switched(900_000, 'low');
  await switched(10_000_000, 'high');
  const now = await state();
  assert.equal(now.estimate, 10_000_000);
  assert.deepEqual(now.errors, []);
  assert.equal(now.stalls, 0);
  assert.equal(now.wrong, 0);
});

test('a publisher that is away for five seconds is waited for without an error', async () => {
  const before = await state();
  await chromium.page.evaluate(() => (window.contract.swarm.frozenAt = performance.now()));
  await new Promise((resolve) => setTimeout(resolve, 5_000));
  await chromium.page.evaluate(() => {
    const { swarm } = window.contract;
    // The stream goes on where it stopped.
    swarm.startedAt += performance.now() - swarm.frozenAt;
    swarm.frozenAt = Infinity;
  });
  const { position } = await state();
  await chromium.page.waitForFunction(
    (position) => document.getElementById('video').currentTime > position + 3, { timeout: 20_000 }, position);
  const now = await state();
  assert.deepEqual(now.errors.filter((error) => !error.startsWith('bufferStalledError')), before.errors);
  assert.equal(now.wrong, 0);
});
