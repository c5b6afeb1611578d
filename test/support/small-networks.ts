import { join } from 'node:path';
import { type Shapes, textEncoderShapes, tinyVaeShapes, vaeShapes } from '../../src/import/shapes.js';
import { countOf, type Tensor } from '../../src/import/tensor.js';
import { writeSafeTensors } from '../../src/import/writer.js';
import { memoryTensor } from './memory-tensor.js';

/** Small networks that go with the golden video network (width 24, text width 16), as safetensors in a folder. */
export async function writeSmallNetworks(directory: string): Promise<void> {
  const text = { vocabSize: 300, dim: 16, dimAttn: 16, dimFfn: 24, numHeads: 2, numLayers: 1, numBuckets: 32 };
  const vae = { dim: 4, zDim: 16, dimMult: [1, 2, 4, 4], numResBlocks: 2, temporalDownsample: [false, true, true] };
  const tiny = { channels: [8, 4, 4, 4], zDim: 16, timeUpscale: [1, 2, 2] };
  await writeNetwork(join(directory, 'text.safetensors'), textEncoderShapes({ ...text, maxDistance: 128, eps: 1e-6 }));
  await writeNetwork(join(directory, 'vae.safetensors'), vaeShapes({ ...vae, mean: [], std: [] }));
  await writeNetwork(join(directory, 'tiny.safetensors'), tinyVaeShapes(tiny));
}

async function writeNetwork(file: string, shapes: Shapes): Promise<void> {
  const tensors = new Map(
    [...shapes].map(([name, shape]): [string, Tensor] => {
      const values = Float32Array.from({ length: countOf(shape) }, (_, i) => ((i * 37) % 101) / 101 - 0.5);
      return [name, memoryTensor(name, shape, values)];
    }),
  );
  await writeSafeTensors(
    file,
    tensors,
    () => 'F32',
    () => undefined,
  );
}
