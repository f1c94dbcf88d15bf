// The swarm's estimate under hls.js's own ABR controller, not an imitation of it.
// @vitest-environment happy-dom

import Hls from 'hls.js';
import { afterEach, describe, expect, it } from 'vitest';
import { attachSwarm, swarmConfig } from '../src/hls/attach';
import type { Swarm } from '../src/hls/swarm';

let bitsPerSecond = 0;
let firstByteMs = 0;
const swarm: Swarm = {
  bandwidth: { bitsPerSecond: () => bitsPerSecond, firstByteMs: () => firstByteMs },
  load: () => new Promise(() => {}),
};

const players: Hls[] = [];
function player(config = {}): Hls {
  const hls = new Hls(config);
  players.push(hls);
  return hls;
}

afterEach(() => {
  for (const hls of players.splice(0)) hls.destroy();
  bitsPerSecond = firstByteMs = 0;
});

/** What hls.js would learn from a fragment that came out of memory in a millisecond: 8 Gbit/s. */
function fromMemory(hls: Hls) {
  const stats = {
    loaded: 1_000_000,
    total: 1_000_000,
    aborted: false,
    loading: { start: 1, first: 1, end: 2 },
    parsing: { start: 2, end: 2 },
    buffering: { start: 2, first: 2, end: 2 },
  };
  const frag = { type: 'main', sn: 1, level: 0, stats, bitrate: 1_000_000 };
  for (let n = 0; n < 20; n++) {
    hls.trigger(Hls.Events.FRAG_BUFFERED, { frag, part: null, stats, id: 'main' } as never);
  }
}

describe.each([
  ['configured', () => player(swarmConfig(Hls, swarm))],
  [
    'attached',
    () => {
      const hls = player();
      attachSwarm(hls, swarm);
      return hls;
    },
  ],
])('an Hls %s with a swarm', (_, make) => {
  it('believes the swarm and not its own stop-watch', () => {
    bitsPerSecond = 3_000_000;
    const hls = make();
    fromMemory(hls);
    expect(hls.bandwidthEstimate).toBe(3_000_000);
    bitsPerSecond = 800_000;
    expect(hls.bandwidthEstimate).toBe(800_000);
  });

  it("takes hls.js's default while nothing is known", () => {
    expect(make().bandwidthEstimate).toBe(Hls.DefaultConfig.abrEwmaDefaultEstimate);
    bitsPerSecond = Number.NaN;
    expect(make().bandwidthEstimate).toBe(Hls.DefaultConfig.abrEwmaDefaultEstimate);
  });

  it('still believes it after hls.js reset its estimator', () => {
    bitsPerSecond = 3_000_000;
    const hls = make();
    hls.bandwidthEstimate = 99;
    expect(hls.bandwidthEstimate).toBe(3_000_000);
  });

  it("tells hls.js the swarm's time to first byte", () => {
    const hls = make();
    expect(hls.ttfbEstimate).toBe(100);
    firstByteMs = 35;
    expect(hls.ttfbEstimate).toBe(35);
  });

  it('loads through the swarm and makes no bitrate test', () => {
    const { pLoader, fLoader, testBandwidth } = make().config;
    expect(pLoader).toBeDefined();
    expect(fLoader).toBeDefined();
    expect(testBandwidth).toBe(false);
  });
});

it('a plain Hls is misled, which is why this exists', () => {
  const hls = player();
  fromMemory(hls);
  expect(hls.bandwidthEstimate).toBeGreaterThan(100_000_000);
});
