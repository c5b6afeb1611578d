import { totalmem } from 'node:os';
import { expect, it, vi } from 'vitest';
import { type MemoryFinding, memoryFindings } from '../../../src/cli/memory.js';
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
  const device = { index: 0, detail: '', isa: '', threads: 1, refusedRecordings: 0 };
  return {
    devices: () => [
      { ...device, device: 'cpu', available: true, totalMemory: 0 },
      { ...device, device: 'cuda', available: room > 0, totalMemory: room },
    ],
    planMemory: async ({ decoder, precision }) => ({ ...nothing, ...plan(decoder, precision) }),
  };
}
const source = { name: 'pocket', directory: '/p', storedPrecision: 'bf16', hasTinyDecoder: true };

async function findings(...args: Parameters<typeof memoryFindings>): Promise<Record<string, MemoryFinding>> {
  const all = await memoryFindings(...args);
  return Object.fromEntries(all.map((finding) => [finding.topic.replace('Memory pocket, ', ''), finding]));
}

it('says what a model takes and of how much', async () => {
  const addon = planner(16 * GB, () => ({ dit: 2.8 * GB, keysAndValues: 3.5 * GB, working: 0.1 * GB }));
  const found = await findings(addon, source);
  expect(found['cuda, decoder full']).toEqual({
    topic: 'Memory pocket, cuda, decoder full',
    status: 'ok',
    detail:
      'bf16, 6.4 GB: weights 2.8 GB, keys and values 3.5 GB, activations 0.00 GB, decoding 0.00 GB, everything else 0.10 GB of 16.0 GB',
  });
  expect(found['cpu, decoder full']?.detail).toMatch(new RegExp(`${(totalmem() / GB).toFixed(1)} GB`));
});

it('counts what the container may use, where that is less than the machine has', async () => {
  const addon = planner(16 * GB, () => ({ dit: 2.8 * GB }));
  const limit = vi.spyOn(process, 'constrainedMemory').mockReturnValue(2 * GB);
  expect((await findings(addon, source))['cpu, decoder full']?.detail).toContain('the device has 2.0 GB');
  for (const none of [0, Number.MAX_SAFE_INTEGER]) {
    limit.mockReturnValue(none);
    expect((await findings(addon, source))['cpu, decoder full']?.detail).toContain(
      `of ${(totalmem() / GB).toFixed(1)} GB`,
    );
  }
  limit.mockRestore();
});

it('plans for both decoders of a package, the one that would run first', async () => {
  const addon = planner(16 * GB, (decoder) => ({ decoding: (decoder === 'full' ? 8 : 0.5) * GB }));
  const topics = async (...args: Parameters<typeof findings>) => Object.keys(await findings(...args));
  const [cpu, cuda] = [(decoder: string) => `cpu, decoder ${decoder}`, (decoder: string) => `cuda, decoder ${decoder}`];
  const both = [cpu('full'), cpu('tiny'), cuda('full'), cuda('tiny')];
  expect(await topics(addon, source)).toEqual(both);
  expect(await topics(addon, source, { decoder: 'auto' })).toEqual(both);
  expect(await topics(addon, source, { decoder: 'tiny' })).toEqual([
    cpu('tiny'),
    cpu('full'),
    cuda('tiny'),
    cuda('full'),
  ]);
  const one = { ...source, hasTinyDecoder: false };
  expect(await topics(addon, one)).toEqual([cpu('full'), cuda('full')]);
  const found = await findings(addon, source);
  expect(found['cuda, decoder full']?.detail).toContain('decoding 8.0 GB');
  expect(found['cuda, decoder tiny']?.detail).toContain('decoding 0.50 GB');
});

it('plans what the settings say', async () => {
  const asked: unknown[] = [];
  const addon: Pick<Addon, 'devices' | 'planMemory'> = {
    ...planner(16 * GB, () => ({})),
    planMemory: async (options, session) => {
      asked.push({ ...options, ...session });
      return nothing;
    },
  };
  const one = { ...source, hasTinyDecoder: false };
  const found = await findings(addon, one, { decoder: 'tiny', precision: 'int8', attention: 'int8', rope: 'relative' });
  expect(asked).toContainEqual({
    ...{ directory: '/p', device: 'cuda', threads: 0, isa: '' },
    ...{ decoder: 'tiny', precision: 'int8', attention: 'int8', rope: 'relative' },
  });
  expect(found['cuda, decoder tiny']?.detail).toMatch(/^int8 with int8 attention, 0\.00 GB/);
});

it('asks the GPU that models would run on', async () => {
  const small = planner(4 * GB, () => ({ dit: 6 * GB }));
  const devices = () => [
    ...small.devices(),
    ...planner(16 * GB, () => ({}))
      .devices()
      .map((report) => ({ ...report, index: 1 })),
  ];
  const detail = async (deviceIndex: number) =>
    (await findings({ ...small, devices }, source, { deviceIndex }))['cuda, decoder full']?.detail;
  expect(await detail(0)).toContain('and the device has 4.0 GB');
  expect(await detail(1)).toMatch(/of 16\.0 GB$/);
  expect(await detail(2)).toMatch(/there is no such device here$/);
});

it('names what would fit', async () => {
  const addon = planner(16 * GB, (decoder, precision) => ({
    dit: (precision === 'int8' ? 10 : 15) * GB,
    decoding: (decoder === 'full' ? 8 : 0.5) * GB,
  }));
  const { 'cuda, decoder full': cuda } = await findings(addon, source);
  expect(cuda?.status).toBe('note');
  expect(cuda?.detail).toMatch(
    /the device has 16\.0 GB: use decoder tiny with precision bf16 \(15\.5 GB\) or decoder tiny with precision int8 \(10\.5 GB\)$/,
  );
});

it('says so when nothing would', async () => {
  const addon = planner(4 * GB, () => ({ dit: 9 * GB }));
  const { 'cuda, decoder full': cuda } = await findings(addon, source);
  expect(cuda?.detail).toMatch(/use a smaller package, or one with an 8-bit text encoder$/);
});

it('plans for a device that is not there', async () => {
  const found = await findings(
    planner(0, () => ({ dit: 9 * GB })),
    source,
  );
  for (const decoder of ['full', 'tiny']) {
    expect(found[`cuda, decoder ${decoder}`]).toMatchObject({
      status: 'note',
      detail: expect.stringMatching(/^bf16, 9\.0 GB: .*there is no such device here$/) as string,
    });
  }
});

it('reports a package that cannot be planned', async () => {
  const addon = {
    ...planner(GB, () => ({})),
    planMemory: async () => Promise.reject(new Error('dit.safetensors is damaged')),
  };
  const { 'cuda, decoder full': cuda } = await findings(addon, source);
  expect(cuda?.detail).toContain('dit.safetensors is damaged');
});

it('plans an 8-bit package as it will run', async () => {
  const addon = planner(16 * GB, (_decoder, precision) => ({ dit: (precision === 'int8' ? 10 : 20) * GB }));
  const eightBit = { ...source, storedPrecision: 'int8' };
  const { 'cuda, decoder full': cuda } = await findings(addon, eightBit);
  expect(cuda).toMatchObject({ status: 'ok', detail: expect.stringContaining('weights 10.0 GB') as string });
  const { 'cuda, decoder full': asked } = await findings(addon, eightBit, { precision: 'bf16' });
  expect(asked).toMatchObject({ status: 'note', detail: expect.stringMatching(/^bf16, 20\.0 GB/) as string });
});
