// What a packager signed, read and checked by the protocol's documents alone (docs/protocol/encoding.md, signing.md,
// media.md) and Node's cryptography: a second opinion, in no way related to the code under test.

import { createHash, createPublicKey, verify } from 'node:crypto';

const SIGNATURE_BYTES = 64;
const PIECE_BYTES = 64 * 1024;
/** Parts before those of `start` that are asked for too. */
const EARLIER = 24;
const DELEGATION = 0x10;
const CATALOG = 0x11;
const RECORD = 0x12;

/** The signed history of one stream, as far as it was collected. */
export class Signed {
  #records = new Map();
  #names = new Map();
  #inits = new Map();
  #waiting = [];
  #heads = new Map();
  #packagers = new Map();

  /** `root` is the stream's root key, base64url. */
  constructor(origin, stream, root, token) {
    Object.assign(this, { origin, stream, root: Buffer.from(root, 'base64url'), token });
  }

  /** Takes in what the origin has signed since the last call. */
  async collect() {
    if (this.#names.size === 0) await this.#begin();
    for (const [id, name] of this.#names) {
      // A request for what does not exist yet is held by the origin: ask for the newest record known, again.
      const from = this.#heads.get(id);
      if (from !== undefined) await this.#get(`records?rendition=${name}&from=${from}`);
    }
  }

  /** A player that began a moment before us may have begun a segment earlier. */
  async #begin() {
    await this.#get('start');
    for (const [id, name] of this.#names) {
      const lowest = Math.min(...(this.#records.get(name)?.keys() ?? [0]));
      if (lowest > 0) this.#heads.set(id, Math.max(lowest - EARLIER, 1));
    }
  }

  /** Whether `bytes` are what was signed for the path below `/s/{stream}/`; undefined when that is not known (yet). */
  check(path, bytes) {
    const init = /^([^/]+)\/(init-\d+-\d+)\.mp4$/.exec(path);
    if (init) return this.#inits.get(path)?.equals(bytes);
    const [, name, kind, number] = /^([^/]+)\/([sp])(\d+)\.m4s$/.exec(path) ?? [];
    const records = this.#of(name, kind, Number(number));
    if (records.length === 0) return undefined;
    const size = records.reduce((sum, record) => sum + record.size, 0);
    if (size !== bytes.length) return false;
    let at = 0;
    return records.every((record) => {
      const part = bytes.subarray(at, (at += record.size));
      return hashes(part).every((hash, index) => hash === record.pieces[index]);
    });
  }

  /** The same for a part whose pieces were hashed already, in hex. */
  checkHashes(path, pieces) {
    const [, name, number] = /^([^/]+)\/p(\d+)\.m4s$/.exec(path) ?? [];
    const [record] = this.#of(name, 'p', Number(number));
    return record && record.pieces.length === pieces.length && record.pieces.every((hash, index) => hash === pieces[index]);
  }

  #of(name, kind, number) {
    const records = this.#records.get(name);
    if (records === undefined) return [];
    if (kind === 'p') return [records.get(number)].filter(Boolean);
    const parts = [...records.values()].filter(({ segment }) => segment === number).sort((a, b) => a.number - b.number);
    // A segment whose last part is not known would look too short.
    const last = parts.at(-1);
    return parts[0]?.part === 0 && records.get(last.number + 1)?.part === 0 ? parts : [];
  }

  async #get(path) {
    const headers = this.token ? { authorization: `Bearer ${this.token}` } : {};
    const response = await fetch(`${this.origin}/s/${this.stream}/${path}`, { headers, signal: AbortSignal.timeout(15_000) });
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    const body = Buffer.from(await response.arrayBuffer());
    for (let at = 0; at + 4 <= body.length; ) {
      const length = body.readUInt32BE(at);
      this.#frame(body.subarray(at + 4, at + 4 + length));
      at += 4 + length;
    }
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const record of waiting) this.#record(record);
  }

  #frame(frame) {
    const [kind, object] = [frame[0], frame.subarray(1)];
    if (kind === DELEGATION) this.#delegation(object);
    else if (kind === CATALOG) this.#catalog(object);
    else if (kind === RECORD) this.#record(object);
  }

  #delegation(object) {
    if (!signs(this.root, 'millstream delegation v1', '', object)) throw new Error('a delegation that the root did not sign');
    const reader = new Reader(object);
    if (reader.text() !== this.stream) throw new Error('a delegation of another stream');
    const generation = reader.u32();
    this.#packagers.set(generation, reader.take(32));
  }

  #catalog(object) {
    const reader = new Reader(object);
    const [generation, version] = [reader.u32(), reader.u32()];
    if (!this.#believed(generation, 'millstream catalog v1', object)) throw new Error('a catalog that nobody signed');
    reader.take(9);
    for (let count = reader.varint(); count > 0; count--) {
      const id = reader.take(1)[0];
      const name = reader.text();
      reader.text();
      reader.take(reader.take(1)[0] === 1 ? 8 : 5);
      reader.text();
      reader.take(8 + 4 + 4 + 4);
      this.#names.set(id, name);
      this.#inits.set(`${name}/init-${generation}-${version}.mp4`, Buffer.from(reader.bytes()));
    }
  }

  #record(object) {
    const reader = new Reader(object);
    const generation = reader.u32();
    reader.u32();
    const id = reader.take(1)[0];
    const name = this.#names.get(id);
    if (name === undefined) return this.#waiting.push(object);
    const number = reader.varint();
    const records = this.#records.get(name) ?? new Map();
    this.#records.set(name, records);
    this.#heads.set(id, Math.max(this.#heads.get(id) ?? 0, number));
    if (records.has(number)) return;
    if (!this.#believed(generation, 'millstream record v1', object)) throw new Error('a record that nobody signed');
    const segment = reader.varint();
    const part = reader.take(2).readUInt16BE();
    reader.varint();
    reader.take(4 + 8 + 4 + 1);
    const size = reader.u32();
    const pieces = Array.from({ length: Math.ceil(size / PIECE_BYTES) }, () => reader.take(32).toString('hex'));
    records.set(number, { number, segment, part, size, pieces });
  }

  #believed(generation, tag, object) {
    const packager = this.#packagers.get(generation);
    return packager !== undefined && signs(packager, tag, this.stream, object);
  }
}

function signs(key, tag, context, object) {
  const [body, signature] = [object.subarray(0, -SIGNATURE_BYTES), object.subarray(-SIGNATURE_BYTES)];
  const message = Buffer.concat([bytes(tag), bytes(context), body]);
  // RFC 8410: the DER prefix of an Ed25519 public key.
  const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), key]);
  return verify(null, message, createPublicKey({ key: der, format: 'der', type: 'spki' }), signature);
}

/** A text with its length before it; all of ours are shorter than 64 bytes. */
function bytes(text) {
  return Buffer.concat([Buffer.of(text.length), Buffer.from(text)]);
}

function hashes(part) {
  const found = [];
  for (let at = 0; at < part.length; at += PIECE_BYTES) {
    found.push(createHash('sha256').update(part.subarray(at, at + PIECE_BYTES)).digest('hex'));
  }
  return found;
}

class Reader {
  #bytes;

  constructor(object) {
    this.#bytes = object;
  }

  take(length) {
    const field = this.#bytes.subarray(0, length);
    this.#bytes = this.#bytes.subarray(length);
    return Buffer.from(field);
  }

  u32() {
    return this.take(4).readUInt32BE();
  }

  varint() {
    const length = 1 << (this.#bytes[0] >> 6);
    const field = this.take(length);
    field[0] &= 0x3f;
    return Number(BigInt(`0x${field.toString('hex')}`));
  }

  bytes() {
    return this.take(this.varint());
  }

  text() {
    return this.bytes().toString();
  }
}
