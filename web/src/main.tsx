import { render } from "preact";
import { App } from "./app.tsx";
import { keepTime } from "./clock.ts";
import { followSession } from "./live.ts";
import { followHash } from "./route.ts";
import { start } from "./store.ts";

const root = document.getElementById("app");
if (root) {
  followHash();
  keepTime();
  followSession();
  render(<App />, root);
  void start();
}
