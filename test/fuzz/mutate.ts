/** Deterministic damage to files. */

/** xorshift32: the same numbers everywhere. */
export function randomFrom(seed: number): (below: number) => number {
  let state = seed | 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const INTERESTING = [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];

/** One to eight changes: bits, bytes, numbers, pieces copied, removed or cut off; most of them where `focus` points. */
export function mutate(
  file: Uint8Array,
  focus: readonly [number, number][],
  random: (below: number) => number,
): Buffer {
  let bytes: Buffer = Buffer.from(file);
  for (let changes = 1 + random(8); changes > 0 && bytes.length > 8; changes--) {
    const [from, to] = random(8) === 0 ? [0, bytes.length] : (focus[random(focus.length)] ?? [0, bytes.length]);
    const end = Math.min(to, bytes.length - 4);
    const at = Math.min(from, end - 1) + random(Math.max(1, end - from));
    bytes = change(bytes, Math.max(0, at), random);
  }
  return bytes;
}

function change(bytes: Buffer, at: number, random: (below: number) => number): Buffer {
  const length = 1 + random(32);
  switch (random(7)) {
    case 0:
      bytes[at] = (bytes[at] as number) ^ (1 << random(8));
      return bytes;
    case 1:
      bytes[at] = random(256);
      return bytes;
    case 2:
      bytes.writeUInt32LE((INTERESTING[random(INTERESTING.length)] as number) >>> 0, at);
      return bytes;
    case 3:
      bytes.writeUInt16LE(random(0x10000), at);
      return bytes;
    case 4:
      return Buffer.concat([
        bytes.subarray(0, at),
        bytes.subarray(random(bytes.length)).subarray(0, length),
        bytes.subarray(at),
      ]);
    case 5:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
    default:
      return random(4) === 0 ? bytes.subarray(0, at) : Buffer.concat([bytes, bytes.subarray(at, at + length)]);
  }
}
