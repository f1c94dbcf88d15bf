// The committed module, called as a page calls it, against Node's own cryptography.

import { createHash, generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { Door, DoorError, Op, Refusal } from '../src/wasm/instance';

function ed25519(message: Uint8Array) {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const key = publicKey.export({ type: 'spki', format: 'der' }).subarray(-32);
  return { key, signature: new Uint8Array(sign(null, message, privateKey)) };
}

describe('the wasm door', () => {
  it.each([0, 1, 63, 64, 65, 65_536])('hashes %d bytes as SHA-256', async (length) => {
    const bytes = randomBytes(length);
    const door = await Door.open();
    expect(door.hash(bytes)).toEqual(new Uint8Array(createHash('sha256').update(bytes).digest()));
  });

  it('takes a signature for its own message alone', async () => {
    const door = await Door.open();
    const message = randomBytes(300);
    const { key, signature } = ed25519(message);
    expect(door.verify(key, signature, message)).toBe(true);
    message[299]! ^= 1;
    expect(door.verify(key, signature, message)).toBe(false);
    expect(door.verify(key.subarray(1), signature, message)).toBe(false);
  });

  it('refuses what is too long and what it does not know, and goes on', async () => {
    const door = await Door.open();
    const refusal = (call: () => unknown) => {
      try {
        call();
      } catch (error) {
        return error instanceof DoorError ? error.refusal : error;
      }
      return 'no error';
    };
    expect(refusal(() => door.hash(new Uint8Array(2 ** 20 + 1)))).toBe(Refusal.TooLong);
    expect(refusal(() => door.call(999))).toBe(Refusal.UnknownOp);
    expect(refusal(() => door.call(Op.Verify, new Uint8Array(95)))).toBe(Refusal.Malformed);
    expect(door.hash(new Uint8Array(0))).toHaveLength(32);
  });

  it('keeps answers apart: an answer is a copy', async () => {
    const door = await Door.open();
    const first = door.hash(Uint8Array.of(1));
    const kept = first.slice();
    door.hash(Uint8Array.of(2));
    expect(first).toEqual(kept);
  });

  it('does not grow when it is called often', async () => {
    const door = await Door.open();
    const piece = randomBytes(65_536);
    for (let n = 0; n < 2_000; n++) door.hash(piece);
    expect(door.memoryBytes).toBeLessThan(4 * 2 ** 20);
  });

  it('says so after it was closed', async () => {
    const door = await Door.open();
    door.close();
    expect(() => door.hash(new Uint8Array(1))).toThrow(DoorError);
  });
});
