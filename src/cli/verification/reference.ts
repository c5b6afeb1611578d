/** Pictures of the reference implementation, as `bench/reference_frames.py` writes them. */

import { openBytes } from '../../import/bytes.js';
import { readSafeTensorsFile } from '../../import/safetensors.js';
import { wholeTensor } from '../../import/tensor.js';
import { EXIT, Failure } from '../failure.js';

export interface Reference {
  /** What made it, in its own words. */
  made: string;
  /** RGB pictures by the name of their case. */
  films: ReadonlyMap<string, { width: number; height: number; rgb: Uint8Array[] }>;
}

/** Tensors `NAME.frames`, U8 [pictures, height, width, 3], and `made` in the metadata. */
export async function readReference(path: string): Promise<Reference> {
  const file = await openBytes(path);
  try {
    const { tensors, metadata } = await readSafeTensorsFile(file);
    const films = new Map<string, { width: number; height: number; rgb: Uint8Array[] }>();
    for (const tensor of tensors) {
      const [count = 0, height = 0, width = 0, channels] = tensor.shape;
      if (!tensor.name.endsWith('.frames') || tensor.dtype !== 'U8' || channels !== 3)
        throw new Failure(
          EXIT.usage,
          `${path} holds "${tensor.name}", which is no film; bench/reference_frames.py makes such files.`,
        );
      const bytes = await wholeTensor(tensor);
      const size = width * height * 3;
      const rgb = Array.from({ length: count }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
      films.set(tensor.name.slice(0, -'.frames'.length), { width, height, rgb });
    }
    return { made: metadata.get('made') ?? 'does not say what made it', films };
  } finally {
    await file.close();
  }
}
