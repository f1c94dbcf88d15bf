// The mend for hls.js's buffer controller, on hls.js's own controller. When the last test fails after an update, hls.js
// has mended it itself and ours can go.
// @vitest-environment happy-dom

import Hls from 'hls.js';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { attachSwarm, swarmConfig } from '../src/hls/attach';
import type { Swarm } from '../src/hls/swarm';

const swarm: Swarm = { bandwidth: { bitsPerSecond: () => 0, firstByteMs: () => 0 }, load: () => new Promise(() => {}) };

let hls: Hls;
afterEach(() => hls.destroy());

/** Which queues advance when a wait on video ends while audio's append is done and its `updateend` is on its way. */
function stepped(heads: Record<string, string>): string[] {
  const controller = (hls as unknown as { bufferController: Record<string, unknown> }).bufferController;
  const shift = vi.fn();
  controller.tracks = { audio: { buffer: { updating: false } }, video: { buffer: { updating: false } } };
  controller.currentOp = (type: string) => ({ label: heads[type] });
  controller.shiftAndExecuteNext = shift;
  (controller.stepOperationQueue as (types: string[]) => void)(['audio', 'video']);
  controller.tracks = {};
  return shift.mock.calls.map(([type]) => type as string);
}

const BURST = { audio: 'append-audio', video: 'async-blocker' };

describe.each([
  ['configured', () => new Hls(swarmConfig(Hls, swarm))],
  [
    'attached',
    () => {
      const made = new Hls();
      attachSwarm(made, swarm);
      return made;
    },
  ],
])('an Hls %s with a swarm', (_, make) => {
  it('advances a queue that waited, and no other', () => {
    hls = make();
    expect(stepped(BURST)).toEqual(['video']);
    expect(stepped({ audio: 'async-blocker', video: 'async-blocker-prepend' })).toEqual(['audio', 'video']);
  });
});

it('a plain Hls advances both, and loses what audio appends next', () => {
  hls = new Hls();
  expect(stepped(BURST)).toEqual(['audio', 'video']);
});
