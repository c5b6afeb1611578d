import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, vi } from 'vitest';
import { memoryBytes } from '../../../src/import/bytes.js';
import { ImportError, inFile } from '../../../src/import/errors.js';
import { openSource, readTensors } from '../../../src/import/source.js';
import { countOf, type Tensor, viewTensor, wholeTensor } from '../../../src/import/tensor.js';
import { readZip } from '../../../src/import/zip.js';
import { writeZip } from '../../support/zip-writer.js';

vi.setConfig({ testTimeout: 60_000 });

const golden = (name: string) => fileURLToPath(new URL(`../../golden/checkpoints/${name}`, import.meta.url));
const fixture = (name: string) => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));

interface Described {
  safetensors?: string;
  tensors?: Record<string, { shape: number[] }>;
}

const listed = (JSON.parse(readFileSync(golden('checkpoints.json'), 'utf8')) as { files: Record<string, Described> })
  .files;
const readable = Object.entries(listed).flatMap(([name, { safetensors }]) =>
  safetensors ? [[name, safetensors] as const] : [],
);

/** Everything a file holds, by name. */
async function contents(path: string): Promise<Record<string, unknown>> {
  const tensors = await readTensors(memoryBytes(readFileSync(path)));
  const entries = await Promise.all(
    tensors.map(async (tensor) => {
      const bytes = Buffer.from(await wholeTensor(tensor)).toString('hex');
      return [tensor.name, { dtype: tensor.dtype, shape: tensor.shape, bytes }] as const;
    }),
  );
  return Object.fromEntries(entries);
}

describe('a PyTorch checkpoint', () => {
  it.each(readable)('%s holds what its twin %s holds', async (name, twin) => {
    const found = await contents(golden(name));
    expect(found).toEqual(await contents(golden(twin)));
    expect(Object.keys(found).length).toBeGreaterThan(0);
  });

  it('is read with the records, types and protocols of newer versions', async () => {
    const twin = await contents(fixture('modern.safetensors'));
    expect(await contents(fixture('modern.pt'))).toEqual(twin);
    expect(await contents(fixture('modern_protocol5.pt'))).toEqual(twin);
  });

  it('lets parts of a strided view be read', async () => {
    const source = await openSource(golden('views_dtypes.pt'));
    const view = source.tensors.find(({ name }) => name === 'transposed') as Tensor;
    const whole = Buffer.from(await view.read(0, 36));
    expect(Buffer.from(await view.read(7, 20))).toEqual(whole.subarray(28, 80));
    await source.close();
  });

  it.each([
    ['some columns', [100, 10], [50, 1], 3],
    ['a transposed matrix', [40, 60], [1, 40], 0],
    ['turned axes', [5, 6, 7], [7, 35, 1], 11],
    ['a row that is repeated', [9, 20], [0, 1], 5],
  ])('reads of %s what the piece needs', async (_what, shape, stride, offset) => {
    const storage = Uint8Array.from({ length: 5_000 }, (_, i) => (i * 7) % 251);
    let most = 0;
    const bytes = {
      ...memoryBytes(storage),
      read: async (from: number, to: number) => ((most = Math.max(most, to - from)), storage.slice(from, to)),
    };
    const view = viewTensor('view', 'U8', shape, { bytes, from: 0, to: storage.length, offset, stride });
    const count = shape.reduce((product, size) => product * size, 1);
    const expected = Array.from({ length: count }, (_, element) => {
      let [at, rest] = [offset, element];
      for (let i = shape.length - 1; i >= 0; rest = Math.floor(rest / (shape[i--] as number)))
        at += (rest % (shape[i] as number)) * (stride[i] as number);
      return storage[at];
    });
    for (const step of [1, 7, 23, count]) {
      for (let from = 0; from < count; from += step) {
        const end = Math.min(count, from + step);
        expect([...(await view.read(from, end))]).toEqual(expected.slice(from, end));
      }
    }
    most = 0;
    await view.read(20, 25);
    expect(most).toBeLessThan(250);
  });

  it.each([
    ['bad_truncated.pt', /truncated/],
    ['bad_pickle_call.pt', /"__builtin__\.print".*is not run/s],
  ])('%s is refused', async (name, message) => {
    await expect(openSource(golden(name))).rejects.toThrow(message);
  });

  it.each([
    ['object.pt', /NEWOBJ|Odd/],
    ['namespace.pt', /NEWOBJ|argparse/],
  ])('%s is refused by name', async (name, message) => {
    await expect(openSource(fixture(name))).rejects.toThrow(message);
  });

  it('is refused at any length shorter than its own', async () => {
    for (const name of ['base_bf16.pt', 'base_bf16_legacy.pt', 'merged_fp32.safetensors']) {
      const bytes = readFileSync(golden(name));
      for (let length = 0; length < bytes.length; length += 4_999) {
        await expect(readTensors(memoryBytes(bytes.subarray(0, length)))).rejects.toBeInstanceOf(ImportError);
      }
    }
  });

  it.each([
    ['GGUF....', /original checkpoint/],
    ['version https://git-lfs.github.com/spec/v1', /git lfs pull/],
    ['<!doctype html>', /download failed/],
    ['', /neither/],
  ])('%j is named for what it is', async (text, message) => {
    await expect(readTensors(memoryBytes(Buffer.from(text)))).rejects.toThrow(message);
  });
});

describe('what a stranger wrote', () => {
  const forged = 'x\r\nforged line\u2028\u202e\u009b';
  /** Of a checkpoint with one tensor, whose storage has this key. */
  const tensorPickle = (key: string) => {
    const text = Buffer.from(key);
    return (
      '\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n' +
      `X${String.fromCharCode(text.length)}\0\0\0${text.toString('latin1')}X\x03\0\0\0cpuK\x04tQK\0(K\x04t(K\x01ttRs.`
    );
  };
  const message = (work: Promise<unknown>) => work.then(String, (error: Error) => error.message);

  it.each([
    ['a storage key', [{ name: 'a/data.pkl', bytes: Buffer.from(tensorPickle(forged), 'latin1') }]],
    [
      'a byte order',
      [
        { name: 'a/data.pkl', bytes: Buffer.from('}.') },
        { name: 'a/byteorder', bytes: Buffer.from('big\r\nforged') },
      ],
    ],
  ])('makes no line of its own: %s', async (_what, entries) => {
    const said = await message(readTensors(memoryBytes(writeZip(entries))));
    expect(said).toContain('forged');
    expect(said).not.toMatch(/[\r\n\u2028\u202e\u0080-\u009f]/);
  });

  it.each(['tensor', 'type', 'file'])('makes no line of its own: the name of a %s', async (what) => {
    const name = what === 'file' ? 'w' : forged;
    const header = { [name]: { dtype: what === 'type' ? forged : 'F32', shape: [3], data_offsets: [0, 4] } };
    const json = Buffer.from(JSON.stringify(header));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(json.length));
    const file = memoryBytes(Buffer.concat([length, json, Buffer.alloc(4)]));
    const said = await message(inFile(what === 'file' ? forged : 'w.safetensors', () => readTensors(file)));
    expect(said).toContain('w');
    expect(said).not.toMatch(/[\r\n\u2028\u202e\u0080-\u009f]/);
  });

  it('is told of a shape that no weights have, by the name of the tensor and with what to do', () => {
    expect(() => countOf(Array<number>(100_000).fill(1), 'Tensor "w"')).toThrow(
      /^Tensor "w" has 100000 dimensions; at most 16 are read\. The file is damaged, .*download it again\.$/,
    );
  });
});

describe('the pickle interpreter', () => {
  const checkpoint = (pickle: string | Buffer) =>
    readTensors(memoryBytes(writeZip([{ name: 'a/data.pkl', bytes: Buffer.from(pickle as string, 'latin1') }])));
  /** The same object n levels deep, each level holding the one below twice. */
  const laughs = (levels: number) =>
    '\x80\x02' +
    '}q\x00' +
    Array.from({ length: levels }, (_, i) => `0}(X\x01\0\0\0ah${chr(i)}X\x01\0\0\0bh${chr(i)}uq${chr(i + 1)}`).join(
      '',
    ) +
    '.';
  const chr = (code: number) => String.fromCharCode(code);

  it.each([
    ['a call by name', '\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.', /"os\.system"/],
    ['a call by name of protocol 4', '\x80\x04\x8c\x02os\x8c\x06system\x93)R.', /"os\.system"/],
    ['an inherited property as a name', '\x80\x02c__proto__\nconstructor\n)R.', /constructor/],
    ['an instance', '\x80\x02cos\nPathLike\n)\x81.', /NEWOBJ/],
    ['a state', '\x80\x02]}b.', /state/],
    ['an extension', '\x80\x02\x82\x01.', /EXT1/],
    ['a higher protocol', '\x80\x09.', /protocol 9/],
    ['an enormous text', '\x80\x02X\xff\xff\xff\x7f.', /truncated/],
    ['an enormous integer', '\x80\x02\x8b\xff\xff\xff\x7f.', /truncated|integer/],
    ['no end', '\x80\x02}', /truncated/],
    ['an empty stack', '\x80\x02.', /stack is empty/],
    ['a mark in the stack', '\x80\x02(.', /stack is empty/],
    ['something unfinished', '\x80\x02}}.', /stack is not empty/],
    ['a forgotten memo', '\x80\x02h\x09.', /recalls/],
    ['something behind its end', '\x80\x02}.}', /there is data/],
    ['more levels than any checkpoint', laughs(60), /levels deep|too many values/],
    ['a dict in itself', '\x80\x02}q\0X\x01\0\0\0ah\0s.', /levels deep/],
  ])('refuses %s', async (_name, pickle, message) => {
    await expect(checkpoint(pickle)).rejects.toThrow(message);
  });

  it('skips values that are no tensors', async () => {
    const values = 'X\x01\0\0\0aK\x05K\x07NI01\n]q\x01';
    await expect(checkpoint(`\x80\x02}(${values}u.`)).resolves.toEqual([]);
    await expect(checkpoint(`\x80\x02}(${values}Nu.`)).rejects.toThrow(/key without a value/);
  });

  const storage = (count: string) => `(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK${count}tQ`;
  const tensor = (count: string, offset: string, size: string, stride: string) =>
    `\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(${storage(count)}${offset}${size}\x85${stride}\x85\x89}tRs.`;
  const withData = (pickle: string) =>
    readTensors(
      memoryBytes(
        writeZip([
          { name: 'a/data.pkl', bytes: Buffer.from(pickle, 'latin1') },
          { name: 'a/data/0', bytes: new Uint8Array(16) },
        ]),
      ),
    );

  it('reads a tensor of four floats', async () => {
    const [read] = await withData(tensor('\x04', 'K\0', 'K\x04', 'K\x01'));
    expect(read).toMatchObject({ name: 'w', dtype: 'F32', shape: [4] });
  });

  it.each([
    ['beyond its storage', tensor('\x04', 'K\x01', 'K\x04', 'K\x01'), /reaches beyond/],
    ['strided beyond its storage', tensor('\x04', 'K\0', 'K\x04', 'K\x02'), /reaches beyond/],
    ['before its storage', tensor('\x04', 'J\xff\xff\xff\xff', 'K\x04', 'K\x01'), /whole number/],
    ['of a negative size', tensor('\x04', 'K\0', 'J\xff\xff\xff\xff', 'K\x01'), /whole number/],
    ['of an absurd size', tensor('\x04', 'K\0', '\x8a\x06\xff\xff\xff\xff\xff\x0f', 'K\0'), /too large/],
    ['in a larger storage than there is', tensor('\x05', 'K\0', 'K\x04', 'K\x01'), /16 of 20/],
  ])('refuses a tensor %s', async (_name, pickle, message) => {
    await expect(withData(pickle)).rejects.toThrow(message);
  });
});

describe('a zip archive', () => {
  const part = (name: string, text = name) => ({ name, bytes: Buffer.from(text) });
  const open = (bytes: Uint8Array) => readZip(memoryBytes(bytes));

  it.each([false, true])('gives the range of each entry (zip64: %s)', async (zip64) => {
    const bytes = writeZip([part('a', 'first'), part('b', 'second')], { zip64 });
    const entries = await open(bytes);
    const texts = [...entries.values()].map(({ name, from, to }) => [name, bytes.toString('utf8', from, to)]);
    expect(texts).toEqual([
      ['a', 'first'],
      ['b', 'second'],
    ]);
  });

  it.each([
    ['compressed', writeZip([{ ...part('a'), method: 8 }]), /compressed/],
    ['encrypted', writeZip([{ ...part('a'), flags: 1 }]), /encrypted/],
    ['overlapping', writeZip([part('a'), { ...part('a'), claimed: { offset: 0 } }]), /overlaps/],
    ['too long', writeZip([{ ...part('a'), claimed: { bytes: 5_000 } }]), /beyond its end/],
    ['elsewhere', writeZip([{ ...part('a'), claimed: { offset: 7 } }]), /no header/],
    ['far away', writeZip([{ ...part('a'), claimed: { offset: 2 ** 45 } }], { zip64: true }), /truncated or damaged/],
    ['renamed', writeZip([{ ...part('a'), claimed: { name: 'b' } }]), /has a different/],
    ['twice there', writeZip([part('a'), part('a')]), /two entries/],
    ['countless', writeZip([part('a')], { entries: 10 ** 9, zip64: true }), /1000000000 entries/],
    ['miscounted', writeZip([part('a')], { entries: 2 }), /its directory/],
    ['followed by something', Buffer.concat([writeZip([part('a')]), Buffer.from('more')]), /no end record/],
    ['preceded by something', Buffer.concat([Buffer.from('more'), writeZip([part('a')])]), /not where it should be/],
  ])('is refused when an entry is %s', async (_name, bytes, message) => {
    await expect(open(bytes)).rejects.toThrow(message);
  });
});

describe('safetensors', () => {
  const file = (header: unknown, bytes = 16) => {
    const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(json.length));
    return readTensors(memoryBytes(Buffer.concat([length, json, Buffer.alloc(bytes)])));
  };
  const entry = (from: number, to: number, shape = [(to - from) / 4]) => ({
    dtype: 'F32',
    shape,
    data_offsets: [from, to],
  });

  it('allows metadata and nothing else beside tensors', async () => {
    await expect(file({ __metadata__: { format: 'pt' }, a: entry(0, 16, [2, 2]) })).resolves.toHaveLength(1);
    await expect(file({ a: { ...entry(0, 16), extra: 1 } })).rejects.toThrow(/describes "a"/);
  });

  it.each([
    ['overlap', { a: entry(0, 16), b: entry(8, 16) }, /overlap/],
    ['leave a gap', { a: entry(0, 4), b: entry(8, 16) }, /gaps/],
    ['end early', { a: entry(0, 8) }, /file has 16/],
    ['end late', { a: entry(0, 32) }, /reaches|file has 16/],
    ['are of another size', { a: entry(0, 16, [5]) }, /byte count/],
    [
      'are of a strange type',
      { a: { ...entry(0, 16), dtype: 'F4' } },
      /is stored as "F4", which is not read\. Take the bf16/,
    ],
    ['have no header', '{"a"', /not JSON/],
  ])('are refused when the tensors %s', async (_name, header, message) => {
    await expect(file(header)).rejects.toThrow(message);
  });
});

it('knows every file of the golden checkpoints', () => {
  const files = readdirSync(golden('.')).filter((name) => /\.pth?$/.test(name));
  for (const name of files) expect(name in listed, name).toBe(true);
  expect(files).toHaveLength(13);
});
