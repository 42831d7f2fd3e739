// Where we are: `#/device/<id>` and the like, so that the hub needs to serve one page only.

import { signal } from "@preact/signals";

export interface Route {
  page: string;
  id: string;
  query: URLSearchParams;
}

/** Pages whose address carries a code that works once: it is taken out of the address at once, and kept in memory only. */
const WITH_CODE = ["join", "reset"];
/** The code that the page was opened with; empty when there was none. */
export const givenCode = signal("");
export const route = signal<Route>(parseRoute(""));

export function followHash(): void {
  arrive();
  window.addEventListener("hashchange", arrive);
}

function arrive(): void {
  const next = parseRoute(location.hash);
  const secret = WITH_CODE.includes(next.page) ? next.id : "";
  if (secret) {
    givenCode.value = secret;
    history.replaceState(null, "", `#/${next.page}`);
    next.id = "";
  } else if (!WITH_CODE.includes(next.page)) givenCode.value = "";
  route.value = next;
}

export function go(hash: string): void {
  location.hash = hash;
}

export function parseRoute(hash: string): Route {
  const text = hash.replace(/^#?\/?/, "");
  const mark = text.indexOf("?");
  const path = mark < 0 ? text : text.slice(0, mark);
  const [page = "", id = ""] = path.split("/");
  let decoded = id;
  try {
    decoded = decodeURIComponent(id);
  } catch {
    // A hand-written address: shown as it is, and not found.
  }
  return { page: page || "devices", id: decoded, query: new URLSearchParams(mark < 0 ? "" : text.slice(mark + 1)) };
}
