// The page's half of the door to the Rust core; the other half is `crates/swarm-wasm/src/exports.rs`, and both
// change together. Bytes in, bytes out: what they mean is not known here.

import deflatedBase64 from './swarm.wasm?deflated';
import { fromBase64 } from '../bytes';

/** What a call asks for: `Op` in `crates/swarm-wasm/src/door.rs`. */
export const Op = { Version: 0, Open: 1, Input: 2, Timeout: 3, Poll: 4, Deadline: 5, Stats: 6, Wall: 7 } as const;

/** Why a call has no answer: `Refusal` in `crates/swarm-wasm/src/door.rs`. */
export const Refusal = { UnknownOp: -1, Malformed: -2, NotOpen: -3, TooLong: -4 } as const;

/** The version of the door that this file speaks. */
const ABI = 3;

/** A call was refused, or the module is gone. */
export class DoorError extends Error {
  override readonly name = 'DoorError';

  /** `refusal` is below zero, or undefined when the module trapped or was closed. */
  constructor(
    message: string,
    readonly refusal?: number,
  ) {
    super(message);
  }
}

interface Exports {
  readonly memory: WebAssembly.Memory;
  door_open(): number;
  door_close(door: number): void;
  door_reserve(door: number, length: number): number;
  door_call(door: number, op: number): number;
  door_outbox(door: number): number;
}

// Compiled once a page; every player has an instance of its own, so that a trap ends one player's swarm alone.
let compiled: Promise<WebAssembly.Module> | undefined;

/** One instance of the Rust core. */
export class Door {
  readonly #exports: Exports;
  #door: number | undefined;

  /** Loads the module. Fails where wasm or its SIMD is missing, or a page's CSP lacks `wasm-unsafe-eval`. */
  static async open(): Promise<Door> {
    compiled ??= inflate(deflatedBase64).then((bytes) => WebAssembly.compile(bytes));
    const instance = await WebAssembly.instantiate(await compiled, {});
    return new Door(instance.exports as unknown as Exports);
  }

  private constructor(exports: Exports) {
    this.#exports = exports;
    this.#door = exports.door_open();
    const version = new DataView(this.call(Op.Version).buffer).getUint32(0, true);
    if (version !== ABI) throw new DoorError(`swarm.wasm speaks version ${version}, this page ${ABI}`);
  }

  /** Carries out `op` on the inputs, one after another as one; gives a copy of the answer. */
  call(op: number, ...inputs: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
    const door = this.#door;
    if (door === undefined) throw new DoorError('the swarm has ended');
    try {
      const address = this.#write(door, inputs);
      const length = address === 0 ? Refusal.TooLong : this.#exports.door_call(door, op);
      if (length < 0) throw new DoorError(`operation ${op} was refused (${length})`, length);
      // Memory may have grown and moved: a view older than the call would be detached.
      return new Uint8Array(this.#exports.memory.buffer, this.#exports.door_outbox(door), length).slice();
    } catch (error) {
      if (error instanceof DoorError) throw error;
      // A trap. What is in its memory can no longer be trusted, not even to be freed.
      this.#door = undefined;
      throw new DoorError(`the swarm trapped: ${String(error)}`);
    }
  }

  /** Writes the inputs where the module reads them; 0 when they are too long. */
  #write(door: number, inputs: readonly Uint8Array[]): number {
    const total = inputs.reduce((sum, input) => sum + input.length, 0);
    const address = this.#exports.door_reserve(door, total);
    if (address === 0) return 0;
    const room = new Uint8Array(this.#exports.memory.buffer, address, total);
    let at = 0;
    for (const input of inputs) {
      room.set(input, at);
      at += input.length;
    }
    return address;
  }

  /** Linear memory taken, at most 128 MiB. It never shrinks. */
  get memoryBytes(): number {
    return this.#exports.memory.buffer.byteLength;
  }

  /** Frees the instance. Calls after this are refused. */
  close(): void {
    if (this.#door !== undefined) this.#exports.door_close(this.#door);
    this.#door = undefined;
  }
}

async function inflate(base64: string): Promise<ArrayBuffer> {
  const deflated = new Blob([fromBase64(base64)]).stream();
  return new Response(deflated.pipeThrough(new DecompressionStream('deflate-raw'))).arrayBuffer();
}
