import { createPublicKey, verify } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { SessionKey } from '../src/session-key';

/** An SPKI header for a compressed P-256 point (RFC 5480): OpenSSL does the decompression that proves ours. */
const SPKI_COMPRESSED = Buffer.from('3039301306072a8648ce3d020106082a8648ce3d030107032200', 'hex');

describe('a session key', () => {
  // Both parities of y turn up within a few keys; each must decompress to the key that signs.
  it('signs what its compressed public key verifies', async () => {
    const parities = new Set<number>();
    for (let n = 0; n < 24; n++) {
      const key = await SessionKey.generate();
      expect(key.publicKey).toHaveLength(33);
      parities.add(key.publicKey[0]!);
      const message = new TextEncoder().encode(`message ${n}`);
      const signature = await key.sign(message);
      expect(signature).toHaveLength(64);
      const publicKey = createPublicKey({
        key: Buffer.concat([SPKI_COMPRESSED, key.publicKey]),
        format: 'der',
        type: 'spki',
      });
      const ieee = { key: publicKey, dsaEncoding: 'ieee-p1363' } as const;
      expect(verify('sha256', message, ieee, signature)).toBe(true);
      expect(verify('sha256', new TextEncoder().encode('another'), ieee, signature)).toBe(false);
    }
    expect([...parities].sort()).toEqual([2, 3]);
  });

  it('cannot be exported', async () => {
    const generated: CryptoKeyPair[] = [];
    const generateKey = crypto.subtle.generateKey.bind(crypto.subtle);
    const spy = async (...args: Parameters<typeof generateKey>) => {
      const pair = (await generateKey(...args)) as CryptoKeyPair;
      generated.push(pair);
      return pair;
    };
    crypto.subtle.generateKey = spy as typeof crypto.subtle.generateKey;
    try {
      await SessionKey.generate();
    } finally {
      crypto.subtle.generateKey = generateKey;
    }
    expect(generated).toHaveLength(1);
    await expect(crypto.subtle.exportKey('pkcs8', generated[0]!.privateKey)).rejects.toThrow();
  });
});
