// Reading a label's QR code, with what the browser itself brings (Shape Detection API), or else with a reader of the page's
// own, which is loaded when it is first needed. Either way no picture leaves the browser.

export interface Detector {
  detect(image: ImageBitmap | HTMLVideoElement): Promise<{ rawValue: string }[]>;
}
interface DetectorClass {
  new (options: { formats: string[] }): Detector;
  getSupportedFormats(): Promise<string[]>;
}

const PAUSE_MS = 150;
export const NO_READER = "The part of this page that reads QR codes could not be loaded. Reload the page, or type the code.";

/** The page's own reader could not be loaded: the hub is out of reach, or has been updated. */
export class NoReader extends Error {}

/** A reader of QR codes: the browser's own where it has one. */
export async function qrReader(): Promise<Detector> {
  const made = (globalThis as { BarcodeDetector?: DetectorClass }).BarcodeDetector;
  try {
    if (made && (await made.getSupportedFormats()).includes("qr_code")) return new made({ formats: ["qr_code"] });
  } catch {
    // One that is there and does not work is as good as none.
  }
  return {
    async detect(image) {
      const piece = await import("./qr.ts").catch(() => Promise.reject(new NoReader()));
      return piece.readQr(image);
    },
  };
}

/** Whether there may be a camera to look through: there is none outside a secure context. */
export function hasCamera(): boolean {
  return typeof navigator.mediaDevices?.getUserMedia === "function";
}

/** All texts that the QR codes of a photo carry. */
export async function readPhoto(reader: Detector, photo: Blob): Promise<string[]> {
  const image = await createImageBitmap(photo);
  try {
    return (await reader.detect(image)).map(({ rawValue }) => rawValue);
  } finally {
    image.close();
  }
}

/** Shows the camera in `video` and tells each text it sees. The camera is off as soon as `signal` aborts, even if it was still being asked for. */
export async function watch(reader: Detector, video: HTMLVideoElement, signal: AbortSignal, saw: (text: string) => void): Promise<void> {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
  const off = () => {
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
  };
  if (signal.aborted) return off();
  signal.addEventListener("abort", off, { once: true });
  try {
    video.srcObject = stream;
    await video.play();
    while (!signal.aborted) {
      if (video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) for (const { rawValue } of await reader.detect(video)) if (!signal.aborted) saw(rawValue);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  } catch (error) {
    off();
    // Leaving while it begins ends `play` with an error that is nobody's business.
    if (!signal.aborted) throw error;
  }
}

/** Why the camera cannot be used, in words for a person. */
export function cameraTrouble(error: unknown): string {
  if (error instanceof NoReader) return NO_READER;
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError") return "This page may not use the camera. Allow it in the browser's settings for this page, or type the code.";
  if (name === "NotFoundError" || name === "OverconstrainedError") return "There is no camera here. Choose a photo of the label, or type the code.";
  if (name === "NotReadableError") return "Another program uses the camera. Close it and try again, or type the code.";
  return "The camera does not work. Choose a photo of the label, or type the code.";
}
