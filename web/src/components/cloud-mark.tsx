// A few words above every page while the cloud has been out of reach for long, or when another hub has taken this one's place.

import { isRetired, markOf } from "../cloud-mark.ts";
import { now } from "../clock.ts";
import { mayClaim } from "../rights.ts";
import { route } from "../route.ts";
import { cloud, hub, me, reviewPending } from "../store.ts";

export function CloudMark() {
  const retired = hub.value?.retired === true;
  const mark = markOf(cloud.value, retired, now.value, reviewPending.value);
  const concerns = retired || isRetired(cloud.value) || mayClaim(me.value);
  // Its own page says more.
  const here = route.value.page === "cloud" && me.value;
  return (
    <div role="status" class="mark-place">
      {mark && concerns && !here && (me.value ? <a class={`mark ${mark.tone}`} href="#/cloud">{mark.text}</a> : <p class={`mark ${mark.tone}`}>{mark.text}</p>)}
    </div>
  );
}
