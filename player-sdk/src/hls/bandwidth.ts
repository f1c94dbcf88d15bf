// hls.js's ABR rules over the swarm's estimate. hls.js divides bytes by loader time, and a loader that answers from
// memory takes none: its estimate would be the speed of memcpy, and every viewer would get the largest rendition.

import type Hls from 'hls.js';
import type { AbrController } from 'hls.js';
import type { Bandwidth } from './swarm';

/** What hls.js calls on its estimator, and what the interface of the class adds to that is private. */
type Estimator = AbrController['bwEstimator'];

/** `Base` is `Hls.DefaultConfig.abrController`: taken as an argument so that the page's own hls.js is extended. */
export function swarmAbrController(Base: typeof AbrController, bandwidth: Bandwidth): typeof AbrController {
  return class extends Base {
    constructor(hls: Hls) {
      super(hls);
      this.bwEstimator = swarmEstimator(bandwidth, hls.config.abrEwmaDefaultEstimate);
    }

    // After an emergency switch hls.js forgets what it measured; the swarm's estimate stays true.
    override resetEstimator(abrEwmaDefaultEstimate?: number): void {
      const estimator = this.bwEstimator;
      super.resetEstimator(abrEwmaDefaultEstimate);
      this.bwEstimator = estimator;
    }
  };
}

/** Puts the swarm's estimate under an `Hls` that exists already. */
export function adoptBandwidth(hls: Hls, bandwidth: Bandwidth): void {
  // Private in its types alone; `resetEstimator` and `bwEstimator` are the controller's public interface.
  const { abrController } = hls as unknown as { abrController: AbrController };
  const estimator = swarmEstimator(bandwidth, hls.config.abrEwmaDefaultEstimate);
  const reset = abrController.resetEstimator.bind(abrController);
  abrController.bwEstimator = estimator;
  abrController.resetEstimator = (abrEwmaDefaultEstimate) => {
    reset(abrEwmaDefaultEstimate);
    abrController.bwEstimator = estimator;
  };
}

/** Before anything was measured: a round trip to an edge that is not near. */
const FIRST_BYTE_MS = 100;

function swarmEstimator(bandwidth: Bandwidth, defaultEstimate: number): Estimator {
  const known = () => {
    const bitsPerSecond = bandwidth.bitsPerSecond();
    return Number.isFinite(bitsPerSecond) && bitsPerSecond > 0;
  };
  const ignore = () => {};
  return {
    canEstimate: known,
    getEstimate: () => (known() ? bandwidth.bitsPerSecond() : defaultEstimate),
    getEstimateTTFB: () => bandwidth.firstByteMs() || FIRST_BYTE_MS,
    defaultEstimate,
    sample: ignore,
    sampleTTFB: ignore,
    update: ignore,
    destroy: ignore,
  } as unknown as Estimator;
}
