// What goes into the swarm and what comes out of it, as bytes: the page's half of `crates/swarm-wasm/src/input.rs`,
// `output.rs` and `told.rs`, where the formats stand. Nothing is decided here.

import { toBase64Url } from '../bytes';
import { type Door, DoorError, Op, Refusal } from './instance';

type Bytes = Uint8Array<ArrayBuffer>;

/** What a swarm begins with: `open.rs`. Keys are base64url. */
export interface Beginning {
  readonly stream: string;
  readonly key: string;
  readonly ticket?: string;
  readonly root?: string;
  readonly origin?: string;
  /** Milliseconds since 1970. */
  readonly wall: number;
  readonly latency_ms: number;
  readonly data_channels: boolean;
  /** 64 random bits, decimal. */
  readonly seed: string;
}

/** A request by HTTP. */
export interface Wish {
  readonly url: string;
  /** As in the header. */
  readonly range?: string;
  readonly token?: string;
  /** A longer body is a failure. */
  readonly bytes_max: number;
}

/** What the swarm tells. An absent `edge` is the origin. */
export type SwarmEvent =
  | { readonly type: 'joined'; readonly session: string; readonly edges: number }
  | { readonly type: 'edge_ready'; readonly edge: string; readonly after_ms: number }
  | { readonly type: 'edge_lost'; readonly edge: string; readonly reason?: string }
  | { readonly type: 'primary'; readonly rendition: string; readonly edge: string }
  | {
      readonly type: 'part';
      readonly rendition: string;
      readonly number: number;
      readonly size: number;
      readonly after_ms: number;
      readonly hedged: boolean;
    }
  | { readonly type: 'bad_piece'; readonly edge?: string; readonly rendition: string; readonly number: number }
  | { readonly type: 'refused'; readonly edge?: string; readonly why: string }
  | { readonly type: 'paid'; readonly edge: string; readonly earned: number }
  | { readonly type: 'unpaid'; readonly edge: string; readonly reason: string }
  | { readonly type: 'fault'; readonly code: string; readonly message: string }
  | { readonly type: 'ended' };

/** The swarm's figures. */
export interface Figures {
  readonly edge_bytes: number;
  readonly peer_bytes: number;
  readonly origin_bytes: number;
  readonly pieces_verified: number;
  readonly pieces_rejected: number;
  readonly vouchers_signed: number;
  readonly vouchers_accepted: number;
  readonly parts_hedged: number;
  readonly paid: number;
  /** Bits a second. */
  readonly estimate: number;
  readonly edges: readonly {
    readonly edge: string;
    readonly ready: boolean;
    readonly primary: boolean;
    readonly received: number;
    readonly payable: number;
    readonly booked: number;
    readonly earned: number;
    readonly rtt_ms: number;
    readonly bad: number;
  }[];
}

/** What the page shall do. */
export type Output =
  | { readonly kind: 'tracker'; readonly message: { readonly type: string } }
  | { readonly kind: 'connect'; readonly edge: Bytes }
  | { readonly kind: 'disconnect'; readonly edge: Bytes }
  | { readonly kind: 'send'; readonly edge: Bytes; readonly frame: Bytes }
  | { readonly kind: 'get'; readonly id: number; readonly wish: Wish }
  | { readonly kind: 'abort'; readonly id: number }
  | { readonly kind: 'sign'; readonly id: number; readonly message: Bytes }
  | { readonly kind: 'answer'; readonly id: number; readonly data: string | Bytes }
  | { readonly kind: 'refuse'; readonly id: number; readonly status: number }
  | { readonly kind: 'event'; readonly event: SwarmEvent };

const EDGE_BYTES = 32;
/** The time and the kind. */
const HEAD_BYTES = 9;

/** A swarm behind a door. Every call may throw `DoorError`: then the swarm is gone. */
export class Port {
  readonly #door: Door;

  constructor(door: Door, beginning: Beginning) {
    this.#door = door;
    door.call(Op.Open, encode(JSON.stringify({ ...beginning, now: Number(now()) })));
  }

  trackerOpen(): void {
    this.#input(0);
  }

  trackerClosed(): void {
    this.#input(1);
  }

  /** False when it was not understood. */
  trackerSays(message: unknown): boolean {
    return this.#understood(() => this.#input(2, encode(JSON.stringify(message))));
  }

  edgeOpen(edge: Bytes, fingerprint: Bytes): void {
    this.#input(3, edge, fingerprint);
  }

  edgeClosed(edge: Bytes): void {
    this.#input(4, edge);
  }

  edgeSays(edge: Bytes, frame: Uint8Array): void {
    this.#input(5, edge, frame);
  }

  got(id: number, body: Uint8Array): void {
    this.#input(6, numbers(id), body);
  }

  /** `status` is 0 when there was none. */
  notGot(id: number, status: number): void {
    this.#input(7, numbers(id), Uint8Array.of(status & 255, status >> 8));
  }

  signed(id: number, signature: Uint8Array): void {
    this.#input(8, numbers(id), signature);
  }

  /** False when the URL names nothing of a stream. */
  want(id: number, pathAndQuery: string): boolean {
    return this.#understood(() => this.#input(9, numbers(id), encode(pathAndQuery)));
  }

  unwant(id: number): void {
    this.#input(10, numbers(id));
  }

  /** `at` is the program date time at the playhead. */
  playhead(at: number, bufferMs: number, stalls: number, stalledMs: number): void {
    const time = new Uint8Array(8);
    new DataView(time.buffer).setBigUint64(0, BigInt(Math.max(0, Math.round(at))), true);
    this.#input(11, time, numbers(bufferMs, stalls, stalledMs));
  }

  leave(): void {
    this.#input(12);
  }

  timeout(): void {
    this.#door.call(Op.Timeout, time());
  }

  /** What to do next, until there is nothing. */
  poll(): Output | undefined {
    const bytes = this.#door.call(Op.Poll);
    const [kind] = bytes;
    if (kind === undefined) return undefined;
    const id = () => new DataView(bytes.buffer).getUint32(1, true);
    const edge = () => bytes.slice(1, 1 + EDGE_BYTES);
    const numbered = 5;
    switch (kind) {
      case 0: return { kind: 'tracker', message: json(bytes.subarray(1)) };
      case 1: return { kind: 'connect', edge: edge() };
      case 2: return { kind: 'disconnect', edge: edge() };
      case 3: return { kind: 'send', edge: edge(), frame: bytes.subarray(1 + EDGE_BYTES) };
      case 4: return { kind: 'get', id: id(), wish: json(bytes.subarray(numbered)) };
      case 5: return { kind: 'abort', id: id() };
      case 6: return { kind: 'sign', id: id(), message: bytes.subarray(numbered) };
      case 7: return { kind: 'answer', id: id(), data: decode(bytes.subarray(numbered)) };
      case 8: return { kind: 'answer', id: id(), data: bytes.subarray(numbered) };
      case 9: return { kind: 'refuse', id: id(), status: new DataView(bytes.buffer).getUint16(numbered, true) };
      case 10: return { kind: 'event', event: json(bytes.subarray(1)) };
      default: throw new DoorError(`the swarm wants ${kind} done, which this page does not know`);
    }
  }

  /** On `performance.now()`'s clock, when `timeout` is to be called; undefined when no input is awaited by time. */
  deadline(): number | undefined {
    const bytes = this.#door.call(Op.Deadline);
    return bytes.length === 0 ? undefined : Number(new DataView(bytes.buffer).getBigUint64(0, true)) / 1_000;
  }

  figures(): Figures {
    return json(this.#door.call(Op.Stats));
  }

  /** Tracker time, in milliseconds since 1970. */
  wall(): number {
    return Number(new DataView(this.#door.call(Op.Wall, time()).buffer).getBigUint64(0, true));
  }

  close(): void {
    this.#door.close();
  }

  #input(kind: number, ...fields: readonly Uint8Array[]): void {
    const head = new Uint8Array(HEAD_BYTES);
    head.set(time());
    head[HEAD_BYTES - 1] = kind;
    this.#door.call(Op.Input, head, ...fields);
  }

  #understood(input: () => void): boolean {
    try {
      input();
      return true;
    } catch (error) {
      if (error instanceof DoorError && error.refusal === Refusal.Malformed) return false;
      throw error;
    }
  }
}

/** An edge's name in messages and figures. */
export const edgeName: (edge: Uint8Array) => string = toBase64Url;

function now(): bigint {
  return BigInt(Math.round(performance.now() * 1_000));
}

function time(): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, now(), true);
  return bytes;
}

function numbers(...values: readonly number[]): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((value, at) => bytes.setUint32(4 * at, Math.min(Math.max(Math.round(value), 0), 0xffff_ffff), true));
  return new Uint8Array(bytes.buffer);
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function decode(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function json<T>(bytes: Uint8Array): T {
  return JSON.parse(decode(bytes)) as T;
}
