// Sizes in the words of people. Pure.

/** A size, in the units of shops: “41 kB”, “12.5 MB”, “1.1 GB”. */
export function sizeWords(bytes: number): string {
  if (bytes < 1_000_000) return `${bytes === 0 ? 0 : Math.max(1, Math.round(bytes / 1000))} kB`;
  return bytes < 1_000_000_000 ? `${(bytes / 1_000_000).toFixed(1)} MB` : `${(bytes / 1_000_000_000).toFixed(1)} GB`;
}

/** The share of a whole in percent, 0 to 100; 0 while the whole is not known. */
export function share(part: number | null | undefined, whole: number | null | undefined): number {
  return part && whole ? Math.min(100, Math.floor((part / whole) * 100)) : 0;
}
