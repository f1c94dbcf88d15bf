// The viewer's session key: P-256, because every browser's WebCrypto has it, and not exportable, so that no script
// on the page can carry it away. It lives as long as the page.

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const SIGNING = { name: 'ECDSA', hash: 'SHA-256' } as const;

/** An uncompressed SEC1 point: 0x04, x, y. */
const UNCOMPRESSED_BYTES = 65;
const COORDINATE_BYTES = 32;

/** Signs for one session. */
export class SessionKey {
  readonly #pair: CryptoKeyPair;

  /** The public key as a compressed SEC1 point, 33 bytes. */
  readonly publicKey: Uint8Array<ArrayBuffer>;

  private constructor(pair: CryptoKeyPair, publicKey: Uint8Array<ArrayBuffer>) {
    this.#pair = pair;
    this.publicKey = publicKey;
  }

  /** A fresh key. Fails where there is no WebCrypto, which is every page without a secure context. */
  static async generate(): Promise<SessionKey> {
    const pair = await crypto.subtle.generateKey(ALGORITHM, false, ['sign']);
    const point = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey));
    return new SessionKey(pair, compress(point));
  }

  /** The ECDSA signature over SHA-256 of `message`: `r || s` (IEEE P1363), 64 bytes. */
  async sign(message: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    return new Uint8Array(await crypto.subtle.sign(SIGNING, this.#pair.privateKey, message));
  }
}

/** Compresses a SEC1 point (SEC 1 v2, section 2.3.3): x, and y's parity in the first byte. */
function compress(point: Uint8Array): Uint8Array<ArrayBuffer> {
  if (point.length !== UNCOMPRESSED_BYTES || point[0] !== 4) throw new Error('not an uncompressed P-256 point');
  const yIsOdd = (point[UNCOMPRESSED_BYTES - 1] ?? 0) & 1;
  const compressed = new Uint8Array(1 + COORDINATE_BYTES);
  compressed[0] = 2 + yIsOdd;
  compressed.set(point.subarray(1, 1 + COORDINATE_BYTES), 1);
  return compressed;
}
