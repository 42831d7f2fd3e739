// A few words above every page when backups of the hub fail, or would not do: owners alone are told.

import { useEffect, useState } from "preact/hooks";
import { backups, type Backups } from "../backup-api.ts";
import { backupMark } from "../backup-words.ts";
import { now } from "../clock.ts";
import { news } from "../store.ts";

export function BackupMark() {
  const [view, setView] = useState<Backups | null>(null);
  const fresh = news.value.get("backup");
  // Without an answer it says nothing: the page itself says what is wrong.
  useEffect(() => void backups.all().then(setView, () => {}), [fresh]);
  const mark = view && backupMark(view, now.value);
  return <div role="status" class="mark-place">{mark && <a class={`mark ${mark.tone}`} href="#/backups">{mark.text}</a>}</div>;
}
