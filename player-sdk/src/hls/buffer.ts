// A mend for hls.js 1.7's buffer controller, which bursts out of memory bring to light.
//
// When a wait on one SourceBuffer ends, it steps the operation queues of all of them, and skips those that are
// updating. Between the end of an append and its `updateend` event a buffer is not updating and its append still
// heads the queue: stepped then, the queue advances twice, the next append fails ("still processing"), and a part of
// audio is lost. Ours steps a queue only when what heads it is such a wait.

import type Hls from 'hls.js';
import type { BufferController, HlsConfig } from 'hls.js';

type Base = NonNullable<HlsConfig['bufferController']>;

/** What of the controller is private and used here; absent in a version that works otherwise. */
interface Stepping {
  stepOperationQueue?: (types: readonly string[]) => void;
  currentOp?: (type: string) => { readonly label: string } | null;
}

const WAITS = ['async-blocker', 'async-blocker-prepend'];

/** `Base` is `Hls.DefaultConfig.bufferController`; the class is for hls.js's configuration. */
export function steadyBufferController(base: Base): Base {
  return class extends base {
    constructor(...parameters: ConstructorParameters<Base>) {
      super(...parameters);
      mend(this);
    }
  };
}

/** The same under an `Hls` that exists already. */
export function steadyBuffers(hls: Hls): void {
  const { bufferController } = hls as unknown as { bufferController?: BufferController };
  if (bufferController !== undefined) mend(bufferController);
}

function mend(controller: BufferController): void {
  const stepping = controller as unknown as Stepping;
  const step = stepping.stepOperationQueue;
  if (typeof step !== 'function' || typeof stepping.currentOp !== 'function') return;
  stepping.stepOperationQueue = (types) => {
    const waiting = types.filter((type) => WAITS.includes(stepping.currentOp?.(type)?.label ?? ''));
    step.call(controller, waiting);
  };
}
