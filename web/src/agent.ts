// A browser's long description of itself as people would say it: pure.

const BROWSERS: [RegExp, string][] = [
  [/\bEdgA?\//, "Edge"],
  [/\bOPR\//, "Opera"],
  [/\bSamsungBrowser\//, "Samsung Internet"],
  [/\bFirefox\/|\bFxiOS\//, "Firefox"],
  [/\bChrome\/|\bCriOS\/|\bChromium\//, "Chrome"],
  [/\bSafari\//, "Safari"],
];
const SYSTEMS: [RegExp, string][] = [
  [/\biPhone\b/, "an iPhone"],
  [/\biPad\b/, "an iPad"],
  [/\bAndroid\b/, "Android"],
  [/\bWindows\b/, "Windows"],
  [/\bMac OS X\b|\bMacintosh\b/, "a Mac"],
  [/\bCrOS\b/, "a Chromebook"],
  [/\bLinux\b/, "Linux"],
];

/** “Firefox on Linux”; the first word of what no rule knows. */
export function agentName(agent: string | null | undefined): string {
  if (!agent?.trim()) return "Something that does not say what it is";
  const of = (list: [RegExp, string][]) => list.find(([word]) => word.test(agent))?.[1];
  const browser = of(BROWSERS);
  const system = of(SYSTEMS);
  if (browser) return system ? `${browser} on ${system}` : browser;
  return agent.trim().split(/[\s/(]/)[0]?.slice(0, 40) || agent.slice(0, 40);
}
