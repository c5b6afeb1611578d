import { totalmem } from 'node:os';
import { expect, it } from 'vitest';
import { memoryFindings } from '../../../src/cli/memory.js';
import type { Addon, MemoryPlan } from '../../../src/engine/index.js';

const GB = 1e9;
const nothing = {
  textEncoder: 0,
  dit: 0,
  decoder: 0,
  keysAndValues: 0,
  activations: 0,
  decoding: 0,
  pictures: 0,
  working: 0,
  reserve: 0,
};

/** A device of so many bytes, and plans that depend on decoder and precision. */
function planner(
  room: number,
  plan: (decoder: string, precision: string) => Partial<MemoryPlan>,
): Pick<Addon, 'devices' | 'planMemory'> {
  const device = { detail: '', isa: '', threads: 1 };
  return {
    devices: () => [
      { ...device, device: 'cpu', available: true, totalMemory: 0 },
      { ...device, device: 'cuda', available: room > 0, totalMemory: room },
    ],
    planMemory: async ({ decoder, precision }) => ({ ...nothing, ...plan(decoder, precision) }),
  };
}
const source = { name: 'pocket', directory: '/p', storedPrecision: 'bf16', hasTinyDecoder: true };

it('says what a model takes and of how much', async () => {
  const addon = planner(16 * GB, () => ({ dit: 2.8 * GB, keysAndValues: 3.5 * GB, working: 0.1 * GB }));
  const [cpu, cuda] = await memoryFindings(addon, source);
  expect(cuda).toEqual({
    topic: 'Memory pocket, cuda',
    status: 'ok',
    detail:
      '6.4 GB: weights 2.8 GB, keys and values 3.5 GB, activations 0.00 GB, decoding 0.00 GB, all else 0.10 GB of 16.0 GB',
  });
  expect(cpu?.detail).toMatch(new RegExp(`${(totalmem() / GB).toFixed(1)} GB`));
});

it('names what would fit', async () => {
  const addon = planner(16 * GB, (decoder, precision) => ({
    dit: (precision === 'int8' ? 10 : 15) * GB,
    decoding: (decoder === 'full' ? 8 : 0.5) * GB,
  }));
  const [, cuda] = await memoryFindings(addon, source);
  expect(cuda?.status).toBe('note');
  expect(cuda?.detail).toMatch(
    /the device has 16\.0 GB: use decoder tiny with precision bf16 \(15\.5 GB\) or decoder tiny with precision int8 \(10\.5 GB\)$/,
  );
});

it('says so when nothing would', async () => {
  const [, cuda] = await memoryFindings(
    planner(4 * GB, () => ({ dit: 9 * GB })),
    { ...source, hasTinyDecoder: false },
  );
  expect(cuda?.detail).toMatch(/use a smaller package, or one with an 8-bit text encoder$/);
});

it('plans for a device that is not there', async () => {
  const [, cuda] = await memoryFindings(
    planner(0, () => ({ dit: 9 * GB })),
    source,
  );
  expect(cuda).toMatchObject({
    status: 'note',
    detail: expect.stringMatching(/^9\.0 GB: .*there is no such device here$/) as string,
  });
});

it('reports a package that cannot be planned', async () => {
  const addon = {
    ...planner(GB, () => ({})),
    planMemory: async () => Promise.reject(new Error('dit.safetensors is damaged')),
  };
  const [, cuda] = await memoryFindings(addon, source);
  expect(cuda?.detail).toContain('dit.safetensors is damaged');
});

it('plans an 8-bit package as it will run', async () => {
  const addon = planner(16 * GB, (_decoder, precision) => ({ dit: (precision === 'int8' ? 10 : 20) * GB }));
  const [, cuda] = await memoryFindings(addon, { ...source, storedPrecision: 'int8' });
  expect(cuda).toMatchObject({ status: 'ok', detail: expect.stringContaining('weights 10.0 GB') as string });
});
