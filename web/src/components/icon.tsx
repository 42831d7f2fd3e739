// Icons, drawn for this page on a 24 × 24 grid. All are decoration: words stand beside them.

const PATHS: Record<string, string> = {
  home: "M4 11.5 12 5l8 6.5M6.500 10v9h11v-9M10 19v-5h4v5",
  list: "M5 7h.01M5 12h.01M5 17h.01M9 7h10M9 12h10M9 17h10",
  people: "M9 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6M3.500 19c.4-3.200 2.600-5 5.500-5s5.100 1.800 5.500 5M15.500 5.300a3 3 0 0 1 0 5.500M17 14.300c2 .6 3.200 2.200 3.500 4.700",
  settings: "M4 8h9M17 8h3M4 16h3M11 16h9M15 6v4M9 14v4",
  plus: "M12 5v14M5 12h14",
  "garage-door": "M3.500 20V9.500L12 4.500l8.500 5V20M7 20v-8.500h10V20M7 14.500h10M7 17.300h10",
  lamp: "M8 4h8l3 9H5zM12 13v7M8.500 20h7",
  lock: "M6 11h12v9H6zM8.500 11V8a3.500 3.500 0 0 1 7 0v3M12 14.500v2",
  thermostat: "M10 13.800V6a2 2 0 1 1 4 0v7.800a4 4 0 1 1-4 0M12 9v8",
  plug: "M9 4v5M15 4v5M6.500 9h11v2.500a5.500 5.500 0 0 1-11 0zM12 17v3.500",
  sensor: "M12 12h.01M8.800 15.200a4.500 4.500 0 0 1 0-6.400M15.200 8.800a4.500 4.500 0 0 1 0 6.400M6 18a8.500 8.500 0 0 1 0-12M18 6a8.500 8.500 0 0 1 0 12",
  blind: "M4 5h16M6 5v12h12V5M6 9h12M6 13h12M12 17v3",
  camera: "M4 8h11v9H4zM15 11l5-2.500v8L15 14",
  scan: "M4 8.500V5.500A1.500 1.500 0 0 1 5.500 4h3M15.500 4h3A1.500 1.500 0 0 1 20 5.500v3M20 15.500v3a1.500 1.500 0 0 1-1.500 1.500h-3M8.500 20h-3A1.500 1.500 0 0 1 4 18.500v-3M8.500 8.500h2.500v2.500H8.500zM13.500 13.500h2v2h-2zM14 8.500h1.500V10M8.500 14v1.500H10",
  photo: "M4 6h16v12H4zM4 15.500l4.500-4.500 4.500 4.500 2.500-2.500 4.500 4.500M15.500 9.500h.01",
  thing: "M12 4l7 4v8l-7 4-7-4V8zM5 8l7 4 7-4M12 12v8",
};

/** Words in a device's kind that tell which picture fits. */
const KINDS: [RegExp, string][] = [
  [/garage|gate|door(?!bell)/, "garage-door"],
  [/lock/, "lock"],
  [/lamp|light|bulb/, "lamp"],
  [/thermo|heat|climate|radiator/, "thermostat"],
  [/plug|socket|switch|outlet/, "plug"],
  [/blind|shade|shutter|curtain/, "blind"],
  [/camera|doorbell/, "camera"],
  [/sensor|meter|detector|motion|weather/, "sensor"],
];

export function Icon({ name }: { name: string }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name] ?? PATHS["thing"] ?? ""} />
    </svg>
  );
}

export function KindIcon({ kind }: { kind: string }) {
  return <Icon name={KINDS.find(([word]) => word.test(kind))?.[1] ?? "thing"} />;
}

export function Logo() {
  return (
    <svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" />
      <path class="logo-arch" d="M7 26V15.200a9 9 0 0 1 18 0V26" />
      <path class="logo-flame" d="M16 11.400c3 2.600 4.200 4.600 4.200 6.700a4.200 4.200 0 0 1-2.700 3.900l.8 4h-4.600l.8-4a4.200 4.200 0 0 1-2.700-3.900c0-2.100 1.200-4.100 4.200-6.700z" />
    </svg>
  );
}
