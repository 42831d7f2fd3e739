// Two ways around typing: the camera, or a photo of the label.

import { useEffect, useRef, useState } from "preact/hooks";
import { parseLabel } from "../claim-code.ts";
import { cameraTrouble, hasCamera, NO_READER, NoReader, qrReader, readPhoto, watch, type Detector } from "../scan.ts";
import { announcement } from "../store.ts";
import type { Claimed } from "./claim-input.tsx";
import { Icon } from "./icon.tsx";

const OTHER = "This QR code is not a label of a device for Hearthkey. Its text begins with HK1.";

export function ScanLabel({ onFound }: { onFound: (found: Claimed) => void }) {
  const [reader, setReader] = useState<Detector | null>(null);
  const [open, setOpen] = useState(false);
  const [said, say] = useState("");
  useEffect(() => void qrReader().then(setReader), []);
  if (!reader) return null;

  function take(text: string): boolean {
    const label = parseLabel(text);
    if (!label) {
      say(OTHER);
      return false;
    }
    say("");
    setOpen(false);
    announcement.value = "The label is read.";
    onFound({ text: label.code, deviceId: label.deviceId });
    return true;
  }

  async function picked(input: HTMLInputElement, reading: Detector) {
    const file = input.files?.[0];
    if (!file) return;
    say("Looking at the photo…");
    try {
      const texts = await readPhoto(reading, file);
      if (texts.length === 0) say("No QR code was found in this photo. Go closer, and see that the label is sharp and evenly lit.");
      else texts.find(take);
    } catch (error) {
      say(error instanceof NoReader ? NO_READER : "This file could not be read as a photo.");
    } finally {
      // The same file may be chosen again.
      input.value = "";
    }
  }

  return (
    <div class="scan">
      <div class="buttons">
        {hasCamera() && (
          <button type="button" class="button" aria-expanded={open} onClick={() => { say(""); setOpen(!open); }}>
            <Icon name="scan" />{open ? "Stop camera" : "Scan the label"}
          </button>
        )}
        <label class="button">
          <Icon name="photo" />Choose a photo
          <input class="visually-hidden" type="file" accept="image/*" onChange={(event) => void picked(event.currentTarget, reader)} />
        </label>
      </div>
      {open && <Viewfinder reader={reader} onText={take} onTrouble={(trouble) => { say(trouble); setOpen(false); }} />}
      <p class="hint" role="status">{said || (open ? "Hold the label's QR code into the picture." : "")}</p>
    </div>
  );
}

function Viewfinder({ reader, onText, onTrouble }: { reader: Detector; onText: (text: string) => void; onTrouble: (trouble: string) => void }) {
  const video = useRef<HTMLVideoElement>(null);
  // Whatever takes this from the page turns the camera off; so does putting the page away.
  useEffect(() => {
    const ending = new AbortController();
    const put = () => document.hidden && onTrouble("");
    document.addEventListener("visibilitychange", put, { signal: ending.signal });
    if (video.current) watch(reader, video.current, ending.signal, onText).catch((error: unknown) => onTrouble(cameraTrouble(error)));
    return () => ending.abort();
  }, []);
  return <video ref={video} class="viewfinder" muted playsInline aria-label="What the camera sees" />;
}
