/**
 * Small files that unfold, repeat or lie. Each is read with time and memory that its size justifies, and most are refused.
 *
 *     npx tsx test/fuzz/bombs.ts             what each costs, in a process of its own
 *     npx tsx test/fuzz/bombs.ts NAME        one of them, in this process
 */

import { execFileSync } from 'node:child_process';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { writeZip } from '../support/zip-writer.js';

export interface Bomb {
  name: string;
  /** Read as the importer does, by this name. */
  file: string;
  bytes: () => Buffer;
  /** What the refusal says; without, the file is taken. */
  refusal?: RegExp;
}

const latin = (text: string) => Buffer.from(text, 'latin1');
const repeat = (text: string, times: number) => latin(text.repeat(times));

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function unicode(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([latin('X'), u32(bytes.length), bytes]);
}

function checkpoint(...parts: readonly Buffer[]): Buffer {
  return writeZip([
    { name: 'a/data.pkl', bytes: Buffer.concat([latin('\x80\x02'), ...parts, latin('.')]) },
    { name: 'a/data/0', bytes: Buffer.alloc(4) },
  ]);
}

const STORAGE = '(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ';
const TENSOR = `ctorch._utils\n_rebuild_tensor_v2\n(${STORAGE}K\0K\x01\x85K\x01\x85\x89}tR`;
/** n texts, the first of which is remembered as 1. */
const numbers = (n: number) => Buffer.concat([latin('](]q\x01('), repeat('K\x07', n), latin('e')]);

function safetensors(header: string, body = 0): Buffer {
  const text = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, Buffer.alloc(body)]);
}

const entry = (name: string, from: number, to: number) =>
  `${JSON.stringify(name)}:{"dtype":"U8","shape":[${to - from}],"data_offsets":[${from},${to}]}`;

/** A dict that holds another under many keys, which does the same, and so on; tensors at the end. */
function tree(levels: number, keys: number): Buffer {
  const parts: Buffer[] = [latin(`}(X\x01\0\0\0w${TENSOR}uq\x01`)];
  for (let level = 0; level < levels; level++) {
    parts.push(latin('0}('));
    for (let key = 0; key < keys; key++) parts.push(unicode(`k${key}`), latin('h\x01'));
    parts.push(latin('uq\x01'));
  }
  return Buffer.concat(parts);
}

export const BOMBS: readonly Bomb[] = [
  {
    name: 'a text that is encoded 20,000 times',
    file: 'model.pt',
    bytes: () =>
      checkpoint(
        latin(']('),
        unicode('a'.repeat(8_000_000)),
        latin('q\x01'),
        unicode('latin1'),
        latin('q\x02'),
        repeat('c_codecs\nencode\nh\x01h\x02\x86R', 20_000),
        latin('e'),
      ),
    refusal: /The file has no tensors/,
  },
  {
    name: 'a configuration of an adapter that stands under 20,000 keys',
    file: 'model.pt',
    bytes: () =>
      checkpoint(
        latin('}('),
        ...[unicode('lora_alpha'), unicode('8'.repeat(100_000))],
        latin('uq\x010}('),
        ...Array.from({ length: 20_000 }, (_, i) => Buffer.concat([latin('J'), u32(i), latin('h\x01')])),
        latin('u'),
      ),
    refusal: /The file expands/,
  },
  {
    name: '60,000 tensors',
    file: 'model.pt',
    bytes: () =>
      checkpoint(
        latin('}('),
        ...Array.from({ length: 60_000 }, (_, i) => Buffer.concat([unicode(`blocks.${i}.weight`), latin(TENSOR)])),
        latin('u'),
      ),
  },
  {
    name: '60,000 tensors of safetensors',
    file: 'model.safetensors',
    bytes: () =>
      safetensors(
        `{${Array.from({ length: 60_000 }, (_, i) => entry(`blocks.${i}.weight`, i, i + 1)).join(',')}}`,
        60_000,
      ),
  },
  {
    name: 'a dict that is copied 100,000 times',
    file: 'model.pt',
    bytes: () =>
      checkpoint(
        latin('](}('),
        ...Array.from({ length: 5_000 }, (_, i) => Buffer.concat([latin('J'), u32(i), latin('N')])),
        latin('uq\x01'),
        repeat('ccollections\nOrderedDict\nh\x01\x85R', 100_000),
        latin('e'),
      ),
    refusal: /expands/,
  },
  {
    name: 'a list of pairs that becomes 50,000 dicts',
    file: 'model.pt',
    bytes: () =>
      checkpoint(
        latin('](]('),
        ...Array.from({ length: 5_000 }, (_, i) => Buffer.concat([latin('J'), u32(i), latin('N\x86')])),
        latin('eq\x01'),
        repeat('ccollections\nOrderedDict\nh\x01\x85R', 50_000),
        latin('e'),
      ),
    refusal: /expands/,
  },
  {
    name: 'one pair of 200,000 items, 20,000 times',
    file: 'model.pt',
    bytes: () =>
      checkpoint(numbers(200_000), latin('ccollections\nOrderedDict\n]('), repeat('h\x01', 20_000), latin('e\x85Re')),
    refusal: /not pairs/,
  },
  {
    name: 'a shape of 200,000 sizes, 20,000 times',
    file: 'model.pt',
    bytes: () =>
      checkpoint(
        numbers(200_000),
        latin(`${STORAGE}q\x020`),
        repeat('ctorch._utils\n_rebuild_tensor_v2\n(h\x02K\0h\x01h\x01\x89}tR', 20_000),
        latin('e'),
      ),
    refusal: /200000 dimensions/,
  },
  {
    name: 'dicts within dicts, each under 16 keys',
    file: 'model.pt',
    bytes: () => checkpoint(tree(12, 16)),
    refusal: /expands|more than 100000 tensors/,
  },
  {
    name: 'a long key above 5,000 tensors',
    file: 'model.pt',
    bytes: () =>
      checkpoint(
        latin('}'),
        unicode('k'.repeat(4_000_000)),
        latin('}('),
        ...Array.from({ length: 5_000 }, (_, i) => Buffer.concat([unicode(`w${i}`), latin(TENSOR)])),
        latin('us'),
      ),
    refusal: /of more than 1024 characters/,
  },
  {
    name: '8,000,000 empty dicts',
    file: 'model.pt',
    bytes: () => checkpoint(latin(']('), repeat(`${'}'.repeat(4_000)}e(`, 2_000), latin('e')),
    refusal: /expands/,
  },
  {
    name: '8,000,000 empty byte strings',
    file: 'model.pt',
    bytes: () => checkpoint(latin(']('), repeat(`${'C\0'.repeat(4_000)}e(`, 2_000), latin('e')),
    refusal: /expands/,
  },
  {
    name: 'what is remembered 4,000,000 times',
    file: 'model.pt',
    bytes: () => checkpoint(latin('}'), repeat('\x94', 4_000_000)),
    refusal: /expands|stores too many values/,
  },
  {
    name: 'lists within lists, 2,000,000 deep',
    file: 'model.pt',
    bytes: () => checkpoint(repeat(']', 1_900_000), repeat('a', 1_899_999)),
    refusal: /expands/,
  },
  {
    name: 'dicts within dicts, 40,000 deep',
    file: 'model.pt',
    bytes: () => checkpoint(repeat('}K\x01', 40_000), latin('N'), repeat('s', 40_000)),
    refusal: /levels deep/,
  },
  {
    name: 'an integer of 60,000,000 bytes',
    file: 'model.pt',
    bytes: () => checkpoint(latin('\x8b'), u32(60_000_000), Buffer.alloc(60_000_000, 0x55)),
    refusal: /integer of 60000000 bytes/,
  },
  {
    name: 'a tensor that repeats one number 2^30 times',
    file: 'model.pt',
    bytes: () =>
      checkpoint(latin(`}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(${STORAGE}K\0J\0\0\0\x40\x85K\0\x85\x89}tRs`)),
    refusal: /repeats the elements/,
  },
  {
    name: '90,000 entries of an archive',
    file: 'model.pt',
    bytes: () =>
      writeZip(
        Array.from({ length: 90_000 }, (_, i) => ({ name: `a/data/${i}`, bytes: Buffer.alloc(0) })),
        { zip64: true },
      ),
    refusal: /no data\.pkl/,
  },
  {
    name: 'a header that is one array within another',
    file: 'model.safetensors',
    bytes: () => safetensors(`{"a":${'['.repeat(4_000_000)}${']'.repeat(4_000_000)}}`),
    refusal: /nested too deeply/,
  },
  {
    name: 'a header of empty objects',
    file: 'model.safetensors',
    bytes: () => safetensors(`{${Array.from({ length: 1_000_000 }, (_, i) => `"${i}":{}`).join(',')}}`),
    refusal: /more than 100000 tensors/,
  },
  {
    name: 'a header of 200 MB',
    file: 'model.safetensors',
    bytes: () => safetensors(`{${' '.repeat(200_000_000)}}`),
    refusal: /more than 16777216 are not read/,
  },
  {
    name: 'a tensor that is there twice',
    file: 'model.safetensors',
    bytes: () => safetensors(`{${entry('a', 0, 4)},${entry('a', 0, 4)}}`, 4),
    refusal: /twice/,
  },
  {
    name: 'a name of 10,000,000 characters',
    file: 'model.safetensors',
    bytes: () => safetensors(`{"${'n'.repeat(10_000_000)}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`),
    refusal: /10000000 characters/,
  },
  {
    name: 'a tensor called __proto__',
    file: 'model.safetensors',
    bytes: () => safetensors(`{${entry('__proto__', 0, 4)}}`, 4),
  },
  {
    name: 'a string that does not end',
    file: 'model.safetensors',
    bytes: () => safetensors(`{"a`),
    refusal: /not JSON/,
  },
  {
    name: 'tensors that overlap',
    file: 'model.safetensors',
    bytes: () => safetensors(`{${entry('a', 0, 4)},${entry('b', 2, 6)}}`, 6),
    refusal: /overlap/,
  },
  {
    name: 'a tensor before the beginning',
    file: 'model.safetensors',
    bytes: () => safetensors('{"a":{"dtype":"U8","shape":[4],"data_offsets":[-4,0]}}', 4),
    refusal: /in an unknown/,
  },
  {
    name: 'a tensor of 2^53 bytes',
    file: 'model.safetensors',
    bytes: () => safetensors('{"a":{"dtype":"U8","shape":[9007199254740992],"data_offsets":[0,9007199254740992]}}', 4),
    refusal: /size of|too large|in an unknown/,
  },
  {
    name: '2,000,000 empty pieces of a tokenizer',
    file: 'spiece.model',
    bytes: () => repeat('\x0a\0', 2_000_000),
    refusal: /too many pieces/,
  },
  {
    name: 'groups within groups of a tokenizer, 1,000,000 deep',
    file: 'spiece.model',
    bytes: () => repeat('\x23', 1_000_000),
    refusal: /neither a tokenizer\.json nor/,
  },
];

async function main(): Promise<void> {
  const [chosen] = process.argv.slice(2);
  const self = fileURLToPath(import.meta.url);
  if (chosen === undefined) {
    for (const { name } of BOMBS) process.stdout.write(execFileSync('npx', ['tsx', self, name], { encoding: 'utf8' }));
    return;
  }
  const bomb = BOMBS.find(({ name }) => name === chosen);
  if (!bomb) throw new Error(`There is no "${chosen}".`);
  const { answerTo } = await import('./readers.js');
  const bytes = bomb.bytes();
  const megabytes = (kibibytes: number) => Math.round((kibibytes * 1024) / 1e6);
  const before = [process.cpuUsage(), process.resourceUsage().maxRSS] as const;
  const answer = await answerTo(bomb.file, bytes);
  const { user, system } = process.cpuUsage(before[0]);
  const figures = {
    bytes: bytes.length,
    processorSeconds: (user + system) / 1e6,
    moreMegabytes: megabytes(process.resourceUsage().maxRSS - before[1]),
  };
  process.stdout.write(`${chosen}: ${JSON.stringify(figures)} ${answer?.slice(0, 120) ?? 'taken'}\n`);
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) await main();
