// Says when the hub does not know what time it is: rights that hold for a time do not hold then.

import { hubClock, me } from "../store.ts";

export function ClockNote() {
  const clock = hubClock.value;
  if (!clock || (clock.grade !== "none" && !clock.contradicted)) return null;
  const owner = me.value?.role === "owner";
  return (
    <div class="note note-warn clock-note" role="note">
      <p>{clock.contradicted ? "This hub has heard two different times, and does not know which is right." : "This hub does not know what time it is."} Rights that hold for a time do not work meanwhile. Those without an end do.</p>
      <p class="note-next">{owner ? "Check the date and time of this phone or computer, then reload this page: the hub takes the time from an owner's browser." : "Ask an owner of this home to open this page: the hub takes the time from an owner's browser."}</p>
    </div>
  );
}
