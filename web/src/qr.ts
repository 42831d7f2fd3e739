// Reading QR codes where the browser brings nothing for it: a piece of its own, loaded when somebody scans.

import jsQR from "jsqr";

/** Longer sides, in pixels, at which a picture is looked at: small codes need the first, blurred ones the last. */
const SIDES = [1600, 800, 400];

/** Reads one QR code of `image`; a still picture is looked at more than once, a moving one is seen again anyway. */
export function readQr(image: ImageBitmap | HTMLVideoElement): { rawValue: string }[] {
  const moving = image instanceof HTMLVideoElement;
  const width = moving ? image.videoWidth : image.width;
  const height = moving ? image.videoHeight : image.height;
  const canvas = document.createElement("canvas");
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  if (!brush || width === 0 || height === 0) return [];
  for (const side of moving ? [800] : SIDES) {
    const scale = Math.min(1, side / Math.max(width, height));
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    // What is transparent in a picture is seen on white.
    brush.fillStyle = "#fff";
    brush.fillRect(0, 0, canvas.width, canvas.height);
    brush.drawImage(image, 0, 0, canvas.width, canvas.height);
    const { data } = brush.getImageData(0, 0, canvas.width, canvas.height);
    const found = jsQR(data, canvas.width, canvas.height, { inversionAttempts: moving ? "dontInvert" : "attemptBoth" });
    if (found?.data) return [{ rawValue: found.data }];
  }
  return [];
}
