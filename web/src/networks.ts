// Networks as people type them: addresses with the length of their prefix, one a line. What exactly is a network, the hub decides.

/** What was typed, cut at lines, commas and spaces. */
export function networksOf(text: string): string[] {
  return text.split(/[\s,;]+/).filter(Boolean);
}

/** What is wrong with it; empty when it looks like networks. */
export function networksError(text: string): string {
  const all = networksOf(text);
  if (all.length === 0) return "Name at least one network: nobody comes in from anywhere else.";
  const wrong = all.find((each) => !looksLikeNetwork(each));
  return wrong ? `“${wrong}” is not a network. Write it like 192.0.2.0/24 or 2001:db8::/32.` : "";
}

function looksLikeNetwork(text: string): boolean {
  const [address = "", length, more] = text.split("/");
  if (more !== undefined || (length !== undefined && !/^\d{1,3}$/.test(length))) return false;
  const v4 = address.split(".");
  if (v4.length === 4 && v4.every((part) => /^\d{1,3}$/.test(part) && Number(part) < 256)) return length === undefined || Number(length) <= 32;
  return /^[0-9a-f:]*:[0-9a-f:]*:[0-9a-f.:]*$/i.test(address) && (length === undefined || Number(length) <= 128);
}
