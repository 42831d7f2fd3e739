// A brand's fingerprint (identity.md §6): base32 of 20 bytes, upper case, 8 groups of 4.

export function formatFingerprint(text: string): string {
  return bare(text).replace(/(.{4})(?=.)/g, "$1-");
}

export function fingerprintError(text: string): string {
  const symbols = bare(text);
  if (symbols === "") return "Type the fingerprint.";
  const stray = /[^A-Z2-7]/.exec(symbols);
  if (stray) return `No fingerprint has the character “${stray[0]}”.`;
  return symbols.length === 32 ? "" : `It has 32 letters and digits; these are ${symbols.length}.`;
}

function bare(text: string): string {
  return text.replace(/[\s\u2010-\u2015-]/g, "").toUpperCase();
}
