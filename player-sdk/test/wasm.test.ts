// The committed module's door, called as a page calls it.

import { describe, expect, it } from 'vitest';
import { Door, DoorError, Op, Refusal } from '../src/wasm/instance';

const OPEN = {
  stream: 'demo', key: 'A'.repeat(44), wall: 1_800_000_000_000, latency_ms: 3_000, data_channels: true, seed: '7', now: 1,
};
const text = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
const now = new Uint8Array(8);

function refusal(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    return error instanceof DoorError ? error.refusal : error;
  }
  return 'no error';
}

describe('the wasm door', () => {
  it('refuses what it does not know, what is too long and what is too early, and goes on', async () => {
    const door = await Door.open();
    expect(refusal(() => door.call(999))).toBe(Refusal.UnknownOp);
    expect(refusal(() => door.call(Op.Input, new Uint8Array(17 * 2 ** 20)))).toBe(Refusal.TooLong);
    expect(refusal(() => door.call(Op.Poll))).toBe(Refusal.NotOpen);
    expect(refusal(() => door.call(Op.Open, text({ ...OPEN, stream: 'Not A Slug' })))).toBe(Refusal.Malformed);
    expect(door.call(Op.Open, text(OPEN))).toHaveLength(0);
    expect(door.call(Op.Wall, now)).toHaveLength(8);
  });

  it('takes a whole part', async () => {
    const door = await Door.open();
    door.call(Op.Open, text(OPEN));
    const got = Uint8Array.of(...now, 6, 1, 0, 0, 0);
    expect(door.call(Op.Input, got, new Uint8Array(16 * 2 ** 20))).toHaveLength(0);
  });

  it('keeps answers apart: an answer is a copy', async () => {
    const door = await Door.open();
    const first = door.call(Op.Version);
    const kept = first.slice();
    door.call(Op.Open, text(OPEN));
    expect(door.call(Op.Stats).length).toBeGreaterThan(100);
    expect(first).toEqual(kept);
  });

  it('does not grow when it is called often', async () => {
    const door = await Door.open();
    door.call(Op.Open, text(OPEN));
    const stray = new Uint8Array(9 + 32 + 65_550);
    stray[8] = 5;
    for (let n = 0; n < 2_000; n++) door.call(Op.Input, stray);
    expect(door.memoryBytes).toBeLessThan(4 * 2 ** 20);
  });

  it('says so after it was closed', async () => {
    const door = await Door.open();
    door.close();
    expect(() => door.call(Op.Version)).toThrow(DoorError);
  });
});
