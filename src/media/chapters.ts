/** Chapters as players read them: Nero's `chpl` list in the movie's user data. */
import type { Chapter } from '../sessions/ports.js';
import { box, fullBox, u32, u64, u8 } from './boxes.js';

/** A list has one byte for their number, and one for the length of a title. */
const MOST = 255;
const TICKS_PER_SECOND = 10_000_000;

/** `udta chpl`. Of too many, the first are in it. */
export function chapterList(chapters: readonly Chapter[]): Uint8Array {
  const listed = chapters.slice(0, MOST);
  const entries = listed.flatMap(({ seconds, title }) => {
    const text = shortened(title);
    return [u64(Math.round(seconds * TICKS_PER_SECOND)), u8(text.length), text];
  });
  return box('udta', fullBox('chpl', 1, 0, u32(0), u8(listed.length), ...entries));
}

/** No more than fits, and no half of a letter. */
function shortened(title: string): Uint8Array {
  const bytes = Buffer.from(title);
  if (bytes.length <= MOST) return bytes;
  let end = MOST;
  while ((bytes[end]! & 0xc0) === 0x80) end--;
  return bytes.subarray(0, end);
}
