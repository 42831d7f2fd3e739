// A time of the week: days, and from when to when.

import type { ComponentChildren } from "preact";
import { DAY_NAMES, DAYS } from "../terms.ts";
import type { Window } from "../types.ts";

/** What stands beside the times comes as `children`. */
export function WindowFields({ window, set, children }: { window: Window; set: (window: Window) => void; children?: ComponentChildren }) {
  const days = (day: string, on: boolean) => DAYS.filter((each) => (each === day ? on : window.days.includes(each)));
  return (
    <>
      <div class="days">
        {DAYS.map((day) => (
          <label key={day}>
            <input class="visually-hidden" type="checkbox" checked={window.days.includes(day)} onChange={(event) => set({ ...window, days: days(day, event.currentTarget.checked) })} />
            <span>{DAY_NAMES[day]}</span>
          </label>
        ))}
      </div>
      <div class="times">
        <label>From <input type="time" required value={window.from} onInput={(event) => set({ ...window, from: event.currentTarget.value })} /></label>
        <label>to <input type="time" required value={window.to} onInput={(event) => set({ ...window, to: event.currentTarget.value })} /></label>
        {children}
      </div>
      {window.to === window.from ? <p class="hint">The whole day.</p> : window.to < window.from && <p class="hint">Until {window.to} on the next day.</p>}
    </>
  );
}
