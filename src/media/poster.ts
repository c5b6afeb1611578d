/** A still picture of one frame. */

/** WebP of a planar I420 picture, BT.709 limited range. */
export async function poster(i420: Uint8Array, width: number, height: number): Promise<Uint8Array> {
  // It takes longer to load than the rest of the service; nobody waits for a poster.
  const { default: sharp } = await import('sharp');
  const rgb = toRgb(i420, width, height);
  return sharp(rgb, { raw: { width, height, channels: 3 } })
    .webp({ quality: 85 })
    .toBuffer();
}

/** BT.709 limited range to full-range RGB, three bytes per pixel. */
export function toRgb(i420: Uint8Array, width: number, height: number): Uint8Array {
  const luma = width * height;
  const chroma = luma / 4;
  const rgb = new Uint8ClampedArray(luma * 3);
  for (let y = 0, out = 0; y < height; y++) {
    for (let x = 0; x < width; x++, out += 3) {
      const at = (y >> 1) * (width >> 1) + (x >> 1);
      const bright = (i420[y * width + x]! - 16) * (255 / 219);
      const cb = (i420[luma + at]! - 128) * (255 / 224);
      const cr = (i420[luma + chroma + at]! - 128) * (255 / 224);
      rgb[out] = bright + 1.5748 * cr;
      rgb[out + 1] = bright - 0.1873 * cb - 0.4681 * cr;
      rgb[out + 2] = bright + 1.8556 * cb;
    }
  }
  return new Uint8Array(rgb.buffer);
}
