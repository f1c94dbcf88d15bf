// The playlist vectors in docs/protocol/vectors/playlist, which Rust computes and checks by the RFC's rules: the module
// in the browser writes the same text from the same signed objects, and hls.js reads in it what was meant.

import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import type { LevelDetails } from 'hls.js';
import Hls from 'hls.js';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { fromBase64Url } from '../src/bytes';
import { swarmConfig } from '../src/hls/attach';
import type { MediaRequest, Swarm } from '../src/hls/swarm';
import { b64, CATALOG, challenge, concat, DELEGATION, framed, RECORD, Viewer, WALL, welcome } from './world';

type Bytes = Uint8Array<ArrayBuffer>;

interface Playlist {
  readonly rendition: number | null;
  readonly low_latency: boolean;
  readonly reports: readonly unknown[];
  readonly lines: readonly string[] | null;
}

interface Vector {
  readonly story: string;
  readonly packager: string;
  readonly catalogs: readonly string[];
  readonly records: readonly string[];
  readonly playlists: readonly Playlist[];
}

const FOLDER = new URL('../../docs/protocol/vectors/playlist/', import.meta.url);
const NAMES = ['video', 'audio'];

/** A player lists nothing across a hole in the records or a packager's restart: it goes on behind it. */
const GOES_ON_BEHIND = ['hole', 'restart'];

const vectors = readdirSync(FOLDER).map((file) => {
  const vector = JSON.parse(readFileSync(new URL(file, FOLDER), 'utf8')) as Vector;
  return { name: file.replace('.json', ''), vector };
});

/** What a player is given: low latency, and nothing reported of other renditions. */
const ofPlayers = ({ playlists }: Vector) =>
  playlists.filter(({ low_latency, reports, lines }) => low_latency && reports.length === 0 && lines !== null);

const pathOf = ({ rendition }: Playlist) => `/s/demo/${rendition === null ? 'index' : NAMES[rendition]}.m3u8`;
const textOf = ({ lines }: Playlist) => `${lines!.join('\n')}\n`;

describe('the module in the browser', () => {
  it.each(vectors.filter(({ name }) => !GOES_ON_BEHIND.includes(name)))(
    'writes the playlists of a vector: $name',
    async ({ vector }) => {
      const viewer = await watching(vector);
      for (const playlist of ofPlayers(vector)) {
        const answers = viewer.tell((port) => port.want(1, pathOf(playlist)));
        expect(answers.find(({ kind }) => kind === 'answer')).toEqual({ kind: 'answer', id: 1, data: textOf(playlist) });
      }
    },
  );

  it('believes none of it without a delegation of the root', async () => {
    const viewer = await watching(vectors[0]!.vector, generateKeyPairSync('ed25519').privateKey);
    const answers = viewer.tell((port) => port.want(1, '/s/demo/index.m3u8'));
    expect(answers.filter(({ kind }) => kind === 'answer')).toEqual([]);
  });
});

describe('hls.js', () => {
  beforeEach(() => {
    // It reads playlists without a browser, but for these two names.
    vi.stubGlobal('self', globalThis);
    vi.stubGlobal('location', new URL('http://origin.example/'));
  });
  afterEach(() => vi.unstubAllGlobals());

  const media = vectors.flatMap(({ name, vector }) =>
    ofPlayers(vector)
      .filter(({ rendition }) => rendition !== null)
      .map((playlist) => ({ name: `${name}, ${NAMES[playlist.rendition!]}`, vector, playlist })),
  );
  it.each(media)('reads a media playlist as it was meant: $name', async ({ vector, playlist }) => {
    const meant = meaning(playlist.lines!);
    if (meant.segments.length === 0) {
      // To hls.js a stream without a whole segment is empty: it loads the playlist again.
      await expect(read(vector, playlist)).rejects.toThrow('levelEmptyError');
      return;
    }
    const details = await read(vector, playlist);
    expect(details.playlistParsingError).toBeFalsy();
    const segments = details.fragments.filter(({ duration }) => duration > 0);
    expect(details.startSN).toBe(meant.sequence);
    expect(details.partList?.length ?? 0).toBe(meant.parts.length);
    details.partList?.forEach((part, index) => {
      expect(part.duration).toBeCloseTo(meant.parts[index]!.duration, 5);
      expect(part.independent).toBe(meant.parts[index]!.independent);
      expect(part.relurl).toBe(meant.parts[index]!.uri);
    });
    meant.segments.forEach(({ sequence, uri, duration, discontinuity, map, date }, index) => {
      const read = segments[index]!;
      expect([read.sn, read.relurl, read.cc, read.initSegment?.relurl]).toEqual([sequence, uri, discontinuity, map]);
      expect(read.duration).toBeCloseTo(duration, 5);
      expect(Math.abs(read.programDateTime! - date)).toBeLessThanOrEqual(1);
    });
    expect(details.targetduration).toBe(4);
    expect(details.live).toBe(!playlist.lines!.includes('#EXT-X-ENDLIST'));
  });
});

/** A viewer that was given the vector's objects by an origin. Its root key delegated to the vector's packager. */
async function watching(vector: Vector, signer?: KeyObject): Promise<Viewer> {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const root = b64(new Uint8Array(publicKey.export({ format: 'der', type: 'spki' }).subarray(-32)));
  const viewer = await Viewer.open({ root, data_channels: false });
  viewer.tell((port) => port.trackerOpen());
  viewer.tell((port) => port.trackerSays(challenge));
  viewer.tell((port) => port.trackerSays({ ...welcome, root, edges: [] }));
  const catalogs = vector.catalogs.map(bytesOf);
  const generations = new Set(catalogs.map((catalog) => new DataView(catalog.buffer).getUint32(0)));
  const start = framed(
    ...[...generations].map((generation) =>
      [DELEGATION, delegation(generation, bytesOf(vector.packager), signer ?? privateKey)] as const),
    ...catalogs.map((catalog) => [CATALOG, catalog] as const),
    // A receiver checks one signature and follows the chain back.
    ...vector.records.map(bytesOf).reverse().map((record) => [RECORD, record] as const),
  );
  viewer.tell((port) => port.got(viewer.last('get').id, start));
  return viewer;
}

/** docs/protocol/signing.md and media.md. */
function delegation(generation: number, packager: Bytes, key: KeyObject): Bytes {
  const text = (value: string) => concat(Uint8Array.of(value.length), new TextEncoder().encode(value));
  const numbers = new DataView(new ArrayBuffer(4 + 16));
  numbers.setUint32(0, generation);
  numbers.setBigUint64(4, BigInt(WALL - 3_600_000));
  numbers.setBigUint64(12, BigInt(WALL + 3_600_000));
  const all = new Uint8Array(numbers.buffer);
  const object = concat(text('demo'), all.slice(0, 4), packager, all.slice(4));
  const message = concat(text('millstream delegation v1'), Uint8Array.of(0), object);
  return concat(object, new Uint8Array(sign(null, message, key)));
}

function bytesOf(text: string): Bytes {
  return Uint8Array.from(fromBase64Url(text)!);
}

/** What hls.js makes of a playlist that the player's own loader answers with. */
function read(vector: Vector, playlist: Playlist): Promise<LevelDetails> {
  const master = `#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000000\n${NAMES[playlist.rendition!]}.m3u8\n`;
  const swarm: Swarm = {
    bandwidth: { bitsPerSecond: () => 5_000_000, firstByteMs: () => 40 },
    load: async ({ kind }: MediaRequest) => {
      if (kind === 'multivariant') return { data: master };
      if (kind === 'playlist') return { data: textOf(playlist) };
      return new Promise(() => {});
    },
  };
  const hls = new Hls(swarmConfig(Hls, swarm));
  return new Promise<LevelDetails>((resolve, reject) => {
    hls.on(Hls.Events.LEVEL_LOADED, (_, { details }) => resolve(details));
    hls.on(Hls.Events.ERROR, (_, { details, error }) => reject(new Error(`${vector.story}: ${details}: ${error?.message}`)));
    hls.loadSource('http://origin.example/s/demo/index.m3u8');
  }).finally(() => hls.destroy());
}

/** What a playlist says, read line by line (RFC 8216bis). */
function meaning(lines: readonly string[]) {
  const header = (tag: string) => Number(lines.find((line) => line.startsWith(`${tag}:`))?.split(':')[1] ?? 0);
  const sequence = header('#EXT-X-MEDIA-SEQUENCE');
  const segments: { sequence: number; uri: string; duration: number; discontinuity: number; map: string | undefined; date: number }[] = [];
  const parts: { uri: string; duration: number; independent: boolean }[] = [];
  let [discontinuity, date, duration] = [header('#EXT-X-DISCONTINUITY-SEQUENCE'), 0, 0];
  let map: string | undefined;
  for (const line of lines) {
    const [, attribute = ''] = /^#EXT[A-Z-]+:(.*)$/.exec(line) ?? [];
    if (line === '#EXT-X-DISCONTINUITY') discontinuity++;
    else if (line.startsWith('#EXT-X-MAP')) map = /URI="([^"]+)"/.exec(attribute)?.[1];
    else if (line.startsWith('#EXT-X-PROGRAM-DATE-TIME')) date = Date.parse(attribute);
    else if (line.startsWith('#EXTINF')) duration = parseFloat(attribute);
    else if (line.startsWith('#EXT-X-PART:')) {
      const [uri, length] = [/URI="([^"]+)"/.exec(attribute)![1]!, Number(/DURATION=([\d.]+)/.exec(attribute)![1])];
      parts.push({ uri, duration: length, independent: attribute.includes('INDEPENDENT=YES') });
    } else if (!line.startsWith('#')) {
      segments.push({ sequence: sequence + segments.length, uri: line, duration, discontinuity, map, date });
      date += duration * 1_000;
    }
  }
  return { sequence, segments, parts };
}
