// Where we are: `#/device/<id>` and the like, so that the hub needs to serve one page only.

import { signal } from "@preact/signals";

export interface Route {
  page: string;
  id: string;
  query: URLSearchParams;
}

export const route = signal<Route>(parseRoute(typeof location === "undefined" ? "" : location.hash));

export function followHash(): void {
  window.addEventListener("hashchange", () => (route.value = parseRoute(location.hash)));
}

export function go(hash: string): void {
  location.hash = hash;
}

export function parseRoute(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#?\/?/, "").split("?", 2);
  const [page = "", id = ""] = path.split("/");
  let decoded = id;
  try {
    decoded = decodeURIComponent(id);
  } catch {
    // A hand-written address: shown as it is, and not found.
  }
  return { page: page || "devices", id: decoded, query: new URLSearchParams(query) };
}
