// hls.js and a video, watched from outside.

/* global Hls */
const STALL_MS = 200;
const video = document.getElementById('video');
const told = { startup_ms: null, stalls: { count: 0, ms: 0 }, errors: [], fragments: 0, parts: 0, bytes: 0, levels: [], discontinuities: [] };
let hls;

window.play = (url, config) => {
  const began = performance.now();
  hls = new Hls(config);
  hls.on(Hls.Events.ERROR, (_, { details, fatal, error }) => told.errors.push(`${details}${fatal ? ' fatal' : ''}: ${error?.message}`));
  hls.on(Hls.Events.FRAG_LOADED, (_, { frag, part }) => {
    if (part) told.parts++;
    else told.fragments++;
    told.bytes += (part ?? frag).stats.loaded;
    if (told.discontinuities.at(-1) !== frag.cc) told.discontinuities.push(frag.cc);
  });
  hls.on(Hls.Events.LEVEL_SWITCHED, (_, { level }) => told.levels.push(hls.levels[level].url[0].split('/').pop()));
  hls.loadSource(url);
  hls.attachMedia(video);
  video.play().catch((error) => told.errors.push(`play: ${error.message}`));

  let last = { time: video.currentTime, at: began };
  let isStalled = false;
  setInterval(() => {
    const now = performance.now();
    const moved = video.currentTime - last.time;
    const passed = now - last.at;
    if (told.startup_ms === null) {
      // The seek to where playback begins is no movement.
      if (moved > 0 && moved * 1_000 <= passed + 50 && !video.paused) told.startup_ms = Math.round(now - began);
    } else if (moved === 0) {
      if (passed < STALL_MS) return;
      if (!isStalled) told.stalls.count++;
      isStalled = true;
      told.stalls.ongoing = Math.round(passed);
      return;
    } else {
      const stood = isStalled ? passed : passed - (moved * 1_000) / video.playbackRate;
      if (isStalled || (moved > 0 && stood >= STALL_MS)) {
        if (!isStalled) told.stalls.count++;
        told.stalls.ms += Math.round(stood);
      }
    }
    isStalled = false;
    delete told.stalls.ongoing;
    last = { time: video.currentTime, at: now };
  }, 50);
};

window.seen = () => {
  const { ongoing = 0, ...stalls } = told.stalls;
  const date = hls.playingDate;
  return {
    ...told,
    stalls: { ...stalls, ms: stalls.ms + ongoing },
    latency_ms: date === null ? null : Date.now() - date.getTime(),
    position: video.currentTime,
    level: hls.currentLevel,
    picture: `${video.videoWidth}x${video.videoHeight}`,
  };
};
