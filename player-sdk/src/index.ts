// Millstream's player: `<millstream-player>` for pages, `attach` and `swarmConfig` for those with an hls.js of their
// own. Importing it defines the elements.

// The module stands before all code: gzip looks back 32 KiB, and code behind it would not see the code before it. That
// saves 2 KB of 90.
import './wasm/swarm.wasm?deflated';
import { MillstreamPlayer } from './element/player';
import { MillstreamStats } from './element/stats';
import { openSwarmSession } from './swarm-session';

export { EdgeConnection, EdgeConnectionError, SdpError } from './edge-connection';
export type { Channel, CloseReason, EdgeAddress, EdgeConnectionOptions } from './edge-connection';
// The one the player uses: `millstream.full.js` has it inside, the others share the page's.
export { default as Hls } from 'hls.js';
export { attach } from './attach';
export type {
  BadPieceDetail,
  EdgeDetail,
  ErrorDetail,
  ModeDetail,
  PaidDetail,
  PlainReason,
  PlayerErrorName,
} from './element/player';
export { swarmConfig, TARGET_LATENCY_S } from './hls/attach';
export { LoadFailure } from './hls/swarm';
export type { Bandwidth, MediaAnswer, MediaRequest, Swarm, Watch } from './hls/swarm';
export { Playhead } from './playhead';
export { SessionRefused } from './session';
export type { EndReason, OpenSession, Session, SessionOptions } from './session';
export { SessionKey } from './session-key';
export type { BytesBySource, EdgeStats, PlayerStats } from './stats';
export { missingSupport } from './support';
export type { Missing } from './support';
export { TrackerSocket } from './tracker-socket';
export type { TrackerSocketOptions, TrackerState, Typed } from './tracker-socket';
export { openSwarmSession } from './swarm-session';
export { Door, DoorError } from './wasm/instance';
export type { SwarmEvent } from './wasm/port';
export { MillstreamPlayer, MillstreamStats };

MillstreamPlayer.openSession = openSwarmSession;

// A server that renders pages imports this too, and has no elements.
if (globalThis.customElements !== undefined) {
  if (customElements.get('millstream-stats') === undefined) customElements.define('millstream-stats', MillstreamStats);
  if (customElements.get('millstream-player') === undefined) customElements.define('millstream-player', MillstreamPlayer);
}
