// What hls.js asks of the swarm, until it is answered.

import { LoadFailure, type MediaAnswer, type MediaRequest, type Watch } from './hls/swarm';
import type { Port } from './wasm/port';

const ENDED = 'the session ended';

interface Want {
  resolve(answer: MediaAnswer): void;
  reject(error: unknown): void;
}

/** The player's open requests. */
export class Wants {
  readonly #open = new Map<number, Want>();
  readonly #tell: (input: (port: Port) => void) => void;
  #last = 0;
  #isClosed = false;

  /** `tell` gives the swarm an input, then does what it wants done. */
  constructor(tell: (input: (port: Port) => void) => void) {
    this.#tell = tell;
  }

  load(request: MediaRequest, { signal }: Watch): Promise<MediaAnswer> {
    const { pathname, search } = new URL(request.url);
    return new Promise((resolve, reject) => {
      let id = 0;
      let timer: ReturnType<typeof setTimeout> | undefined;
      const end = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', abort);
        this.#open.delete(id);
      };
      const want: Want = {
        resolve: ({ data }) => (end(), resolve({ data: cut(data, request.range) })),
        reject: (error) => (end(), reject(error)),
      };
      const ask = (path: string) => {
        id = ++this.#last;
        this.#open.set(id, want);
        this.#tell((port) => {
          if (!port.want(id, path)) want.reject(new LoadFailure(404, `nothing of the stream: ${path}`));
        });
      };
      const forget = () => {
        this.#open.delete(id);
        this.#tell((port) => port.unwant(id));
      };
      const abort = () => {
        forget();
        want.reject(new LoadFailure(0, 'aborted'));
      };
      if (signal.aborted || this.#isClosed) return reject(new LoadFailure(0, this.#isClosed ? ENDED : 'aborted'));
      signal.addEventListener('abort', abort, { once: true });
      if (request.blocking !== undefined) {
        // What there is by then: hls.js takes an unchanged playlist calmly and counts a timeout as an error.
        timer = setTimeout(() => {
          forget();
          ask(pathname);
        }, request.answerBy - performance.now());
      }
      ask(pathname + search);
    });
  }

  answer(id: number, data: string | Uint8Array): void {
    this.#open.get(id)?.resolve({ data });
  }

  refuse(id: number, status: number): void {
    this.#open.get(id)?.reject(new LoadFailure(status, `the swarm answered ${status}`));
  }

  /** Nothing will be answered any more. */
  close(): void {
    this.#isClosed = true;
    for (const want of [...this.#open.values()]) want.reject(new LoadFailure(0, ENDED));
  }
}

function cut(data: string | Uint8Array, range: MediaRequest['range']): string | Uint8Array {
  return typeof data === 'string' || range === undefined ? data : data.subarray(range.start, range.end);
}
