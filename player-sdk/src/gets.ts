// The swarm's requests by HTTP: bounded in time and bytes, and given up when it says so. Retries are the swarm's.

import type { Wish } from './wasm/port';

/** A request for records that do not exist yet is held for three target durations, twelve seconds. */
const PATIENCE_MS = 20_000;

/** HTTP requests under way. */
export class Gets {
  readonly #running = new Map<number, AbortController>();
  readonly #got: (id: number, body: Uint8Array) => void;
  readonly #failed: (id: number, status: number) => void;

  /** `failed` is told an HTTP status, or 0 when there was none. An aborted request is told to nobody. */
  constructor(got: (id: number, body: Uint8Array) => void, failed: (id: number, status: number) => void) {
    this.#got = got;
    this.#failed = failed;
  }

  get(id: number, wish: Wish): void {
    const running = new AbortController();
    this.#running.set(id, running);
    const timer = setTimeout(() => running.abort(), PATIENCE_MS);
    const ended = () => {
      clearTimeout(timer);
      // Whoever aborted it has forgotten it.
      return this.#running.delete(id);
    };
    fetchBytes(wish, running.signal).then(
      (body) => ended() && this.#got(id, body),
      (error: unknown) => ended() && this.#failed(id, error instanceof StatusError ? error.status : 0),
    );
  }

  abort(id: number): void {
    const running = this.#running.get(id);
    this.#running.delete(id);
    running?.abort();
  }

  close(): void {
    for (const id of [...this.#running.keys()]) this.abort(id);
  }
}

class StatusError extends Error {
  constructor(readonly status: number) {
    super(`status ${status}`);
  }
}

async function fetchBytes({ url, range, token, bytes_max }: Wish, signal: AbortSignal): Promise<Uint8Array> {
  const headers: Record<string, string> = {};
  if (range !== undefined) headers.Range = range;
  if (token !== undefined) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(url, { headers, signal, credentials: 'omit' });
  // A whole answer to a question for a part of it would be taken for that part.
  if (response.status !== (range === undefined ? 200 : 206)) throw new StatusError(response.status);
  const parts: Uint8Array[] = [];
  let length = 0;
  const reader = response.body?.getReader();
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true, value: undefined };
    if (done || value === undefined) break;
    length += value.length;
    if (length > bytes_max) {
      void reader?.cancel();
      throw new RangeError('the answer is too long');
    }
    parts.push(value);
  }
  const body = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    body.set(part, at);
    at += part.length;
  }
  return body;
}
