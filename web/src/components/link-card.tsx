// A link that works once, to give to somebody: as a QR code, to copy, or with what the phone has for sharing.

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Code } from "../access-api.ts";
import { now } from "../clock.ts";
import { moment } from "../rights.ts";
import { hub } from "../store.ts";
import { Copyable } from "./copy.tsx";

export function LinkCard({ code, title, children, onDone }: { code: Code; title: string; children?: ComponentChildren; onDone?: () => void }) {
  const card = useRef<HTMLDivElement>(null);
  useEffect(() => card.current?.focus(), [code.code]);
  return (
    <div class="link-card" tabIndex={-1} ref={card} role="group" aria-label={title}>
      <p><strong>{title}</strong></p>
      <div class="link-card-row">
        <Qr svg={code.qr} alt={`QR code: ${title}`} />
        <div>
          {children}
          <p class="quiet">It works once, until {moment(code.expires, now.value)}, and only in this home's network. It is shown only now.</p>
          <Copyable label="the link" text={code.link} wrap />
          <p class="quiet code-line">Or the code alone: <code>{code.code}</code></p>
          <div class="buttons">
            {"share" in navigator && <button type="button" class="button" onClick={() => void share(title, code.link)}>Send it…</button>}
            {onDone && <button type="button" class="button" onClick={onDone}>Done</button>}
          </div>
        </div>
      </div>
    </div>
  );
}

/** The hub draws the code; as a picture it can hold nothing that runs. */
export function Qr({ svg, alt }: { svg: string; alt: string }) {
  return <img class="qr" width="176" height="176" alt={alt} src={`data:image/svg+xml,${encodeURIComponent(svg)}`} />;
}

async function share(title: string, url: string): Promise<void> {
  try {
    await navigator.share({ title: `${hub.value?.name || "Hearthkey"}: ${title}`, url });
  } catch {
    // Put away without a choice: the link is still there.
  }
}
