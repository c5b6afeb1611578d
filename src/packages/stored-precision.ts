import { type DownloadOptions, readSmall } from './download.js';
import type { Manifest } from './package.js';
import type { RemoteFolder } from './remote-folder.js';

const NETWORK = 'dit.safetensors';
const LENGTH_BYTES = 8;
/** Read at once: the whole header of a small network. */
const FIRST_BYTES = 64 << 10;
const MOST_HEADER_BYTES = 16 << 20;
const NAMES: ReadonlyMap<unknown, string> = new Map([
  ['F32', 'fp32'],
  ['F16', 'fp16'],
  ['BF16', 'bf16'],
  ['I8', 'int8'],
  ['F8_E4M3', 'fp8'],
]);

/**
 * What most of the video network's weights are stored as, by the header of their file, here or elsewhere; `null` when that
 * cannot be read. Nothing is checked here: the native core does that, strictly.
 */
export async function storedPrecision(
  folder: RemoteFolder,
  { files }: Manifest,
  options: DownloadOptions = {},
): Promise<string | null> {
  const { bytes = 0 } = files[NETWORK] ?? {};
  if (bytes <= LENGTH_BYTES) return null;
  const read = (start: number, end: number) =>
    readSmall(folder, NETWORK, end - start, options, { start, end: end - 1 });
  try {
    const first = Buffer.from(await read(0, Math.min(bytes, FIRST_BYTES)));
    const length = first.readBigUInt64LE();
    if (length > MOST_HEADER_BYTES) return null;
    const end = LENGTH_BYTES + Number(length);
    const header = end <= first.length ? first.subarray(LENGTH_BYTES, end) : Buffer.from(await read(LENGTH_BYTES, end));
    return mostCommon(JSON.parse(header.toString()) as Header);
  } catch {
    return null;
  }
}

type Header = Record<string, { dtype: string; shape: number[] }>;

function mostCommon(header: Header): string | null {
  const counts = new Map<unknown, number>();
  for (const [name, { dtype, shape }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    counts.set(dtype, (counts.get(dtype) ?? 0) + shape.reduce((product, size) => product * size, 1));
  }
  const [most] = [...counts].sort(([, a], [, b]) => b - a);
  return (most && NAMES.get(most[0])) ?? null;
}
