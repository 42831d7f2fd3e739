// Reading QR codes where the browser brings nothing for it: a piece of its own, loaded when somebody scans.

import jsQR from "jsqr";

interface Look {
  /** The longer side, in pixels, at which a picture is looked at. */
  side: number;
  /** Whether each pixel becomes the mean of its neighbours first: the noise of a small sensor hides a code otherwise. */
  soft: boolean;
}

/** Cheap ones first: most labels fill a good part of the picture. Small codes need the larger ones. */
const STILL: Look[] = [{ side: 400, soft: false }, { side: 800, soft: true }, { side: 1600, soft: true }, { side: 240, soft: false }, { side: 800, soft: false }, { side: 1600, soft: false }];
/** A moving picture is seen again at once, so each of its frames is looked at in one way only. */
const MOVING: Look[] = [{ side: 400, soft: false }, { side: 800, soft: true }];
let frames = 0;

/** The QR code in `image`, if one is read. */
export async function readQr(image: ImageBitmap | HTMLVideoElement): Promise<{ rawValue: string }[]> {
  const moving = image instanceof HTMLVideoElement;
  const looks = moving ? MOVING.slice(frames++ % MOVING.length).slice(0, 1) : STILL;
  for (const look of looks) {
    const picture = moving ? pixels(image, image.videoWidth, image.videoHeight, look) : pixels(image, image.width, image.height, look);
    const found = picture && jsQR(picture.data, picture.width, picture.height, { inversionAttempts: moving ? "dontInvert" : "attemptBoth" });
    if (found?.data) return [{ rawValue: found.data }];
    // The page stays alive between two looks.
    await new Promise((resolve) => setTimeout(resolve));
  }
  return [];
}

function pixels(image: CanvasImageSource, width: number, height: number, { side, soft }: Look): ImageData | null {
  const scale = Math.min(1, side / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  if (!brush || canvas.width === 0 || canvas.height === 0) return null;
  // What is transparent in a picture is seen on white.
  brush.fillStyle = "#fff";
  brush.fillRect(0, 0, canvas.width, canvas.height);
  brush.drawImage(image, 0, 0, canvas.width, canvas.height);
  const picture = brush.getImageData(0, 0, canvas.width, canvas.height);
  if (soft) soften(picture);
  return picture;
}

/** Each pixel becomes the mean of the nine around it, in grey; the rim stays. */
function soften({ data, width, height }: ImageData): void {
  const grey = new Float32Array(width * height);
  for (let at = 0; at < grey.length; at++) grey[at] = 0.3 * (data[4 * at] ?? 0) + 0.59 * (data[4 * at + 1] ?? 0) + 0.11 * (data[4 * at + 2] ?? 0);
  const three = (at: number) => (grey[at - 1] ?? 0) + (grey[at] ?? 0) + (grey[at + 1] ?? 0);
  for (let y = 1; y < height - 1; y++)
    for (let x = 1; x < width - 1; x++) {
      const at = y * width + x;
      data.fill((three(at - width) + three(at) + three(at + width)) / 9, 4 * at, 4 * at + 3);
    }
}
