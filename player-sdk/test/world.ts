// The published vectors as a world around one viewer: a tracker, an edge and an origin that say what
// docs/protocol/vectors/wire.json has.

import { readFileSync } from 'node:fs';
import { toBase64Url } from '../src/bytes';
import { Door } from '../src/wasm/instance';
import { type Beginning, type Output, Port, type SwarmEvent } from '../src/wasm/port';

type Bytes = Uint8Array<ArrayBuffer>;

interface Vectors {
  readonly keys: Record<string, string>;
  readonly frames: Record<string, string>;
  readonly signed: Record<string, { readonly tag: string; readonly encoded: string }>;
}

const vectors = JSON.parse(
  readFileSync(new URL('../../docs/protocol/vectors/wire.json', import.meta.url), 'utf8'),
) as Vectors;

export const hex = (text: string): Bytes => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
export const key = (name: string): Bytes => hex(vectors.keys[name]!);
export const signed = (name: string): Bytes => hex(vectors.signed[name]!.encoded);
export const frame = (name: string): Bytes => hex(vectors.frames[name]!);
export const b64 = toBase64Url;

/** When all of it was signed. */
export const WALL = Number(0x01a3185c5000n);
export const EDGE = key('edge');
export const SESSION = new Uint8Array(16).fill(7);
export const NONCE = new Uint8Array(16).fill(6);
export const FINGERPRINT = new Uint8Array(32).fill(8);
export const ORIGIN = 'http://origin.example';
export const PART_BYTES = 70_000;

/** The media that the vectors' records describe: part 100 is all zeros, part 101 all ones. */
export const media = (number: number): Bytes => new Uint8Array(PART_BYTES).fill(number - 100);

export function concat(...parts: readonly Uint8Array[]): Bytes {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
}

/** What a signature covers: docs/protocol/signing.md. */
export function signingInput(name: string): Bytes {
  const tag = new TextEncoder().encode(vectors.signed[name]!.tag);
  return concat(Uint8Array.of(tag.length), tag, Uint8Array.of(0), signed(name).subarray(0, -64));
}

export const signature = (name: string): Bytes => signed(name).slice(-64);

export const DELEGATION = 0x10;
export const CATALOG = 0x11;
export const RECORD = 0x12;

/** A body as `start` and `records` have it. */
export function framed(...objects: readonly (readonly [kind: number, object: Uint8Array])[]): Bytes {
  return concat(
    ...objects.flatMap(([kind, object]) => {
      const length = new DataView(new ArrayBuffer(4));
      length.setUint32(0, object.length + 1);
      return [new Uint8Array(length.buffer), Uint8Array.of(kind), object];
    }),
  );
}

export const START = framed(
  [DELEGATION, signed('delegation')],
  [CATALOG, signed('catalog')],
  [RECORD, signed('second_record')],
  [RECORD, signed('record')],
);

export const challenge = { type: 'challenge', nonce: b64(NONCE), tracker: b64(key('tracker')), time: WALL } as const;

export const welcome = {
  type: 'welcome',
  session: b64(SESSION),
  certificate: b64(signed('certificate')),
  stream: 'demo',
  root: b64(key('root')),
  origin: ORIGIN,
  edges: [
    {
      id: b64(EDGE),
      address: {
        sockets: ['192.0.2.1:4443', '[2001:db8::1]:4443'],
        ufrag: 'ufrag',
        password: '0123456789abcdefghijkl',
        fingerprint: b64(FINGERPRINT),
      },
      grant: b64(signed('grant')),
    },
  ],
  time: WALL,
  report_ms: 5_000,
} as const;

/** A port, and what came out of it so far. */
export class Viewer {
  readonly outputs: Output[] = [];

  static async open(beginning: Partial<Beginning> = {}): Promise<Viewer> {
    return new Viewer(
      new Port(await Door.open(), {
        stream: 'demo',
        key: b64(key('session')),
        root: b64(key('root')),
        wall: WALL,
        latency_ms: 3_000,
        data_channels: true,
        seed: '7',
        ...beginning,
      }),
    );
  }

  private constructor(readonly port: Port) {}

  /** Gives the swarm an input; what it wants done since, also kept in `outputs`. */
  tell(input: (port: Port) => void): Output[] {
    input(this.port);
    const fresh: Output[] = [];
    for (let output = this.port.poll(); output !== undefined; output = this.port.poll()) fresh.push(output);
    this.outputs.push(...fresh);
    return fresh;
  }

  events(): SwarmEvent[] {
    return this.outputs.flatMap((output) => (output.kind === 'event' ? [output.event] : []));
  }

  /** The last output of a kind. */
  last<K extends Output['kind']>(kind: K): Extract<Output, { kind: K }> {
    const found = this.outputs.filter((output): output is Extract<Output, { kind: K }> => output.kind === kind).at(-1);
    if (found === undefined) throw new Error(`no ${kind} among ${this.outputs.map((output) => output.kind).join()}`);
    return found;
  }

  /** Joins, and opens the lane to the edge. */
  join(): void {
    this.tell((port) => port.trackerOpen());
    this.tell((port) => port.trackerSays(challenge));
    this.tell((port) => port.trackerSays(welcome));
  }

  greet(): void {
    this.tell((port) => port.edgeOpen(EDGE, FINGERPRINT));
    this.tell((port) => port.signed(this.last('sign').id, signature('hello')));
  }
}
