// Numbers as people read them.

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** `1.4 MiB`. */
export function bytesText(bytes: number): string {
  let value = Math.max(bytes, 0);
  let unit = 0;
  while (value >= 1024 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${BYTE_UNITS[unit]}`;
}

/** `2.4 Mbit/s`. */
export function rateText(bitsPerSecond: number): string {
  if (!(bitsPerSecond > 0)) return '–';
  return bitsPerSecond >= 1e6 ? `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s` : `${Math.round(bitsPerSecond / 1e3)} kbit/s`;
}

/** `2.9 s`, `870 ms`; a dash for nothing. */
export function durationText(ms: number | undefined): string {
  if (ms === undefined || !Number.isFinite(ms)) return '–';
  return ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`;
}

/** Micro-units as units, as many digits as there is something to see: `0.000412`. */
export function moneyText(micros: number): string {
  const digits = micros >= 1e6 ? 2 : micros >= 1e4 ? 4 : 6;
  return (micros / 1e6).toFixed(digits);
}
