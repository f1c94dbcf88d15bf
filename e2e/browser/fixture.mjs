// A two-rendition CMAF stream with separate audio, made by ffmpeg once and cut into parts: what a packager would
// have published, without a packager.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const FOLDER = fileURLToPath(new URL('../../target/e2e-fixture', import.meta.url));

/** 24 frames a second make parts of exactly six frames. */
const PART_US = 250_000;
const PARTS_PER_SEGMENT = 8;
const SECONDS = 60;

const X264 = ['-c:v', 'libx264', '-preset', 'ultrafast', '-tune', 'zerolatency', '-g', '48', '-keyint_min', '48',
  '-sc_threshold', '0', '-pix_fmt', 'yuv420p', '-profile:v', 'baseline'];
const VIDEO = `testsrc2=size=640x360:rate=24:duration=${SECONDS}`;
const AUDIO = `sine=frequency=440:sample_rate=48000:duration=${SECONDS}`;

const RENDITIONS = [
  { name: 'high', kind: 'video', codecs: 'avc1.42c01e', bandwidth: 2_000_000,
    args: ['-i', VIDEO, ...X264, '-b:v', '1600k', '-maxrate', '1600k', '-bufsize', '1600k'] },
  { name: 'low', kind: 'video', codecs: 'avc1.42c01e', bandwidth: 500_000,
    args: ['-i', VIDEO, '-vf', 'scale=320:180', ...X264, '-b:v', '350k', '-maxrate', '350k', '-bufsize', '350k'] },
  { name: 'audio', kind: 'audio', codecs: 'mp4a.40.2', bandwidth: 70_000,
    args: ['-i', AUDIO, '-c:a', 'aac', '-b:a', '64k'] },
];

/** The renditions: `{name, kind, codecs, bandwidth, init, parts: [{bytes, duration, independent}]}`, base64. */
export function fixture() {
  mkdirSync(FOLDER, { recursive: true });
  return RENDITIONS.map(({ args, ...rendition }) => {
    const file = join(FOLDER, `${rendition.name}.mp4`);
    if (!existsSync(file)) {
      execFileSync('ffmpeg', ['-v', 'error', '-y', '-f', 'lavfi', ...args, '-f', 'mp4', '-movflags',
        'empty_moov+default_base_moof+frag_keyframe', '-frag_duration', String(PART_US), file]);
    }
    return { ...rendition, partsPerSegment: PARTS_PER_SEGMENT, ...cut(readFileSync(file)) };
  });
}

/** An init segment (ftyp, moov) and parts (moof, mdat), each with its duration. */
function cut(file) {
  const boxes = [...boxesOf(file)];
  const init = Buffer.concat(boxes.filter(({ type }) => type === 'ftyp' || type === 'moov').map(({ bytes }) => bytes));
  const timescale = readTimescale(boxes.find(({ type }) => type === 'moov').bytes);
  const parts = [];
  boxes.forEach(({ type, bytes }, at) => {
    if (type !== 'moof') return;
    parts.push({ start: readDecodeTime(bytes), bytes: Buffer.concat([bytes, boxes[at + 1].bytes]) });
  });
  // The last one has no successor to tell its length.
  return {
    init: init.toString('base64'),
    parts: parts.slice(0, -1).map(({ start, bytes }, at) => ({
      bytes: bytes.toString('base64'),
      duration: (parts[at + 1].start - start) / timescale,
    })),
  };
}

function* boxesOf(bytes) {
  for (let at = 0; at + 8 <= bytes.length; ) {
    const size = bytes.readUInt32BE(at);
    yield { type: bytes.toString('latin1', at + 4, at + 8), bytes: bytes.subarray(at, at + size) };
    at += size;
  }
}

function readTimescale(moov) {
  const at = moov.indexOf('mdhd') + 4;
  return moov.readUInt32BE(at + (moov[at] === 1 ? 20 : 12));
}

function readDecodeTime(moof) {
  const at = moof.indexOf('tfdt') + 4;
  return moof[at] === 1 ? Number(moof.readBigUInt64BE(at + 4)) : moof.readUInt32BE(at + 4);
}
