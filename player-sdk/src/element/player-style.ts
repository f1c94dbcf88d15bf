// How the player looks around its video.

export const PLAYER_STYLE = `
:host {
  display: block;
  position: relative;
  container-type: size;
  aspect-ratio: var(--millstream-aspect-ratio, 16 / 9);
  background: var(--millstream-background, #000);
  border-radius: var(--millstream-radius, 0);
  overflow: hidden;
  color: var(--millstream-text-color, #e6edf3);
  font: 14px/1.4 var(--millstream-font, system-ui, sans-serif);
}
:host([hidden]) { display: none; }
video { width: 100%; height: 100%; display: block; object-fit: var(--millstream-object-fit, contain); }
.top {
  position: absolute;
  inset: 10px 10px auto;
  display: flex;
  justify-content: space-between;
  align-items: flex-start;
  pointer-events: none;
  z-index: 1;
}
.top > * { pointer-events: auto; }
.live {
  display: inline-flex;
  align-items: center;
  gap: 6px;
  padding: 2px 8px;
  border-radius: 6px;
  background: rgb(11 15 20 / 0.7);
  font-size: 12px;
  font-weight: 600;
  font-variant-numeric: tabular-nums;
}
.live::before { content: ''; width: 8px; height: 8px; border-radius: 50%; background: var(--millstream-live-color, #ef4444); }
button {
  font: inherit;
  color: inherit;
  border: 0;
  cursor: pointer;
  background: rgb(11 15 20 / 0.7);
  backdrop-filter: blur(8px);
  -webkit-backdrop-filter: blur(8px);
}
button:focus-visible { outline: 2px solid var(--millstream-accent-color, #2dd4bf); outline-offset: 2px; }
.play {
  position: absolute;
  inset: 0;
  margin: auto;
  width: 72px;
  height: 72px;
  border-radius: 50%;
}
.play::before {
  content: '';
  display: block;
  margin-left: 28px;
  border-style: solid;
  border-width: 13px 0 13px 21px;
  border-color: transparent transparent transparent currentColor;
}
.unmute { position: absolute; left: 10px; bottom: 10px; padding: 6px 12px; border-radius: 999px; }
.message {
  position: absolute;
  inset: auto 0 0;
  padding: 24px 16px 14px;
  text-align: center;
  background: linear-gradient(transparent, rgb(0 0 0 / 0.8));
}
/* Numbers at the left, so that the live badge stays where eyes look for it. */
millstream-stats { order: -1; max-width: calc(100% - 90px); }
/* On a phone the picture is 200 pixels high: the first numbers alone. */
@container (max-height: 320px) {
  millstream-stats { --millstream-chart-display: none; --millstream-more-display: none; max-width: 15.5rem; font-size: 11px; }
}
[hidden] { display: none !important; }
`;
