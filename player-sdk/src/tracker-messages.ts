// What viewer and tracker say to each other: `FromViewer` and `ToViewer` in `crates/wire/src/tracker/viewer.rs`,
// which is the law. Ids, keys, signatures and signed objects are base64url texts; times are milliseconds since
// 1970 by the tracker's clock.

import type { EdgeAddress } from './edge-sdp';

/** A signed object, base64url. Its inside is the swarm's to read. */
export type Signed = string;

/** An edge to connect to, and the lane's grant. */
export interface EdgeOffer {
  readonly id: string;
  readonly address: EdgeAddress;
  readonly grant: Signed;
}

export interface EdgeBytes {
  readonly edge: string;
  readonly received: number;
  readonly bad: number;
  readonly rtt_ms: number;
  readonly ready: boolean;
}

export type FromViewer =
  | { readonly type: 'join'; readonly stream: string; readonly key: string; readonly ticket?: string }
  | { readonly type: 'resume'; readonly certificate: Signed; readonly proof: Signed }
  | { readonly type: 'renew'; readonly edge: string }
  | {
      readonly type: 'report';
      readonly buffer_ms: number;
      readonly latency_ms: number;
      readonly stalls: number;
      readonly stalled_ms: number;
      readonly origin_bytes: number;
      readonly edges: readonly EdgeBytes[];
    }
  | { readonly type: 'voucher'; readonly voucher: Signed }
  | { readonly type: 'signal'; readonly peer: string; readonly data: string }
  | { readonly type: 'leave' };

export interface Welcome {
  readonly type: 'welcome';
  readonly session: string;
  readonly certificate: Signed;
  readonly stream: string;
  readonly root: string;
  readonly origin: string;
  readonly token?: Signed;
  readonly edges: readonly EdgeOffer[];
  readonly time: number;
  readonly report_ms: number;
}

export type FaultCode =
  | 'bad_request'
  | 'unknown_stream'
  | 'not_live'
  | 'bad_ticket'
  | 'rate_limited'
  | 'bad_proof'
  | 'no_funds'
  | 'bad_key'
  | 'busy'
  | 'unavailable';

export type ToViewer =
  | { readonly type: 'challenge'; readonly nonce: string; readonly tracker: string; readonly time: number }
  | Welcome
  | { readonly type: 'grants'; readonly grants: readonly Signed[]; readonly token?: Signed }
  | { readonly type: 'reassign'; readonly edges: readonly EdgeOffer[]; readonly reason: string }
  | { readonly type: 'receipt'; readonly receipt: Signed }
  | { readonly type: 'rejected'; readonly edge: string; readonly reason: string }
  | { readonly type: 'signal'; readonly peer: string; readonly data: string }
  | { readonly type: 'goaway'; readonly retry_ms: number }
  | { readonly type: 'error'; readonly code: FaultCode; readonly message: string };
