// Puts a swarm under hls.js: as configuration for a new instance, or under one that a page made itself.

import type Hls from 'hls.js';
import type { FragmentLoaderContext, HlsConfig, PlaylistLoaderContext } from 'hls.js';
import { adoptBandwidth, swarmAbrController } from './bandwidth';
import { steadyBufferController, steadyBuffers } from './buffer';
import { swarmLoader } from './loader';
import type { Swarm } from './swarm';

/** Seconds behind live that the player aims at, unless the page's own configuration says otherwise. */
export const TARGET_LATENCY_S = 3;

/** Whoever fell behind catches up at this speed: five in a hundred is not heard, as pitch is kept. */
const CATCH_UP_RATE = 1.05;

/** Farther behind than this (a laptop that slept), catching up would take minutes: the player jumps. */
const JUMP_LATENCY_S = 12;

/** What a new `Hls` needs to play from `swarm`: `new Hls({ ...swarmConfig(Hls, swarm), …yours })`. */
export function swarmConfig(hls: typeof Hls, swarm: Swarm): Partial<HlsConfig> {
  const { bufferController } = hls.DefaultConfig;
  return {
    ...loaders(swarm),
    ...(bufferController === undefined ? {} : { bufferController: steadyBufferController(bufferController) }),
    abrController: swarmAbrController(hls.DefaultConfig.abrController, swarm.bandwidth),
    lowLatencyMode: true,
    liveSyncDuration: TARGET_LATENCY_S,
    maxLiveSyncPlaybackRate: CATCH_UP_RATE,
    liveMaxLatencyDuration: JUMP_LATENCY_S,
  };
}

/** Lets an `Hls` that has loaded nothing yet play from `swarm`. */
export function attachSwarm(hls: Hls, swarm: Swarm): void {
  Object.assign(hls.config, loaders(swarm));
  adoptBandwidth(hls, swarm.bandwidth);
  steadyBuffers(hls);
}

function loaders(swarm: Swarm): Partial<HlsConfig> {
  return {
    pLoader: swarmLoader<PlaylistLoaderContext>(swarm),
    fLoader: swarmLoader<FragmentLoaderContext>(swarm),
    // It would download a segment of the lowest rendition to measure a memcpy.
    testBandwidth: false,
    // Answers come whole; nothing would be won.
    progressive: false,
    // Else hls.js sets the duration with every part, and now and then while audio is being appended, which throws.
    liveDurationInfinity: true,
  };
}
