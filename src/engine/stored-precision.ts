import { type DownloadOptions, readSmall } from './download.js';
import type { Manifest } from './package.js';
import type { RemoteFolder } from './remote-folder.js';

const NETWORK = 'dit.safetensors';
const LENGTH_BYTES = 8;
const MOST_HEADER_BYTES = 16 << 20;
const NAMES: Readonly<Record<string, string>> = { F32: 'fp32', F16: 'fp16', BF16: 'bf16', I8: 'int8', F8_E4M3: 'fp8' };

/**
 * What most of the video network's weights are stored as, by the header of their file, here or elsewhere; `null` when that
 * cannot be read. Nothing is checked here: the native core does that, strictly.
 */
export async function storedPrecision(
  folder: RemoteFolder,
  { files }: Manifest,
  options: DownloadOptions = {},
): Promise<string | null> {
  if ((files[NETWORK]?.bytes ?? 0) <= LENGTH_BYTES) return null;
  try {
    const length = Buffer.from(
      await readSmall(folder, NETWORK, LENGTH_BYTES, options, { start: 0, end: 7 }),
    ).readBigUInt64LE();
    if (length > MOST_HEADER_BYTES) return null;
    const range = { start: 8, end: 7 + Number(length) };
    const header = await readSmall(folder, NETWORK, Number(length), options, range);
    return mostCommon(JSON.parse(Buffer.from(header).toString()) as Header);
  } catch {
    return null;
  }
}

type Header = Record<string, { dtype: string; shape: number[] }>;

function mostCommon(header: Header): string | null {
  const counts = new Map<string, number>();
  for (const [name, { dtype, shape }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    counts.set(dtype, (counts.get(dtype) ?? 0) + shape.reduce((product, size) => product * size, 1));
  }
  const [most] = [...counts].sort(([, a], [, b]) => b - a);
  return most ? (NAMES[most[0]] ?? most[0]) : null;
}
