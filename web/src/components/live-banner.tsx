// Says that what is shown may be old, without moving anything on the page.

import { live } from "../live.ts";

export function LiveBanner() {
  const lost = live.value === "lost";
  return (
    <div class="banner-place" role="status" aria-live="polite">
      {lost && <div class="banner"><span class="spinner" aria-hidden="true" />Connection to the hub lost, retrying. What you see may be out of date.</div>}
    </div>
  );
}
