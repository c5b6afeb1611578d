/** docs/results/transitions.md: how two prompts come over several chunks, as strips of pictures. The last picture of each chunk. */
import { writeFile } from 'node:fs/promises';
import sharp from 'sharp';
import { openEngine } from '../src/engine/index.js';
import { toRgb } from '../src/media/poster.js';
import { Course } from '../src/sessions/conditioning.js';
import type { Engine, Frames, Transition } from '../src/sessions/index.js';

const SEED = 3n;
const SWITCH_BLOCK = 3;
const CHUNKS = 13;

const STORIES = [
  ['a red fox runs on the grass by day', 'a blue robot stands on the sand at night'],
  ['a yellow bird jumps along the sand at sunset', 'a purple dinosaur walks on the road in the rain'],
] as const;

const WAYS: readonly (Transition | undefined)[] = [
  undefined,
  { kind: 'LINEAR', chunks: 4, curve: 'EVEN' },
  { kind: 'SLERP', chunks: 4, curve: 'EVEN' },
  { kind: 'LINEAR', chunks: 4, curve: 'SCOPE' },
  { kind: 'LINEAR', chunks: 8, curve: 'EVEN' },
];

const nameOf = (way: Transition | undefined) =>
  way ? `${way.kind}, ${way.chunks} chunks${way.curve === 'SCOPE' ? ', curve SCOPE' : ''}` : 'at once';

interface Row {
  pictures: Buffer[];
  recaches: number;
  recacheMilliseconds: number;
}

async function film(engine: Engine, [from, to]: readonly [string, string], way: Transition | undefined): Promise<Row> {
  const model = engine.models()[0]!;
  const { width, height } = model;
  using generation = await engine.open(model.name, { seed: SEED, width, height });
  const first = Course.begin({ prompt: from, mode: 'RECACHE', block: 0 });
  const second = { prompt: to, mode: 'RECACHE' as const, block: SWITCH_BLOCK, ...(way && { transition: way }) };
  let course = first;
  const row: Row = { pictures: [], recaches: 0, recacheMilliseconds: 0 };
  for (let block = 0; block < CHUNKS; block++) {
    const turns = block === SWITCH_BLOCK;
    if (turns) course = first.then(second);
    if (block === 0 || turns || course.movesAt(block)) {
      const { milliseconds } = await generation.setPrompt(course.at(block), 'RECACHE');
      if (block > 0) row.recaches++;
      if (block > 0) row.recacheMilliseconds += milliseconds;
    }
    for (let step = await generation.step(); step.kind !== 'context'; step = await generation.step()) {
      if (step.kind === 'frames') row.pictures.push(await picture(step.frames));
    }
  }
  return row;
}

function picture({ i420, width, height, count }: Frames): Promise<Buffer> {
  const bytes = (width * height * 3) / 2;
  const rgb = toRgb(i420.subarray((count - 1) * bytes, count * bytes), width, height);
  return sharp(rgb, { raw: { width, height, channels: 3 } })
    .resize(width / 2)
    .png()
    .toBuffer();
}

async function strip(rows: readonly Row[], file: string): Promise<void> {
  const { width = 0, height = 0 } = await sharp(rows[0]!.pictures[0]).metadata();
  const shown = rows.map(({ pictures }) => pictures.slice(SWITCH_BLOCK - 1));
  const tiles = shown.flatMap((pictures, y) =>
    pictures.map((input, x) => ({ input, left: x * width, top: y * (height + 4) })),
  );
  const size = { width: width * shown[0]!.length, height: shown.length * (height + 4), channels: 3 as const };
  await sharp({ create: { ...size, background: 'white' } })
    .composite(tiles)
    .webp({ quality: 82 })
    .toFile(file);
}

const engine = await openEngine({ models: 'models', model: 'pocket', device: 'cpu', precision: 'bf16' });
const { title, version, width, height } = engine.models()[0]!;
const lines = [
  '# Transitions',
  '',
  `${title} ${version}, ${width}x${height}, seed ${SEED}, two processors: \`npm run bench:transitions\`. The last picture of each chunk (0.75 s); the second prompt is asked for before the second picture.`,
  '',
];
for (const [index, story] of STORIES.entries()) {
  const rows: Row[] = [];
  for (const way of WAYS) rows.push(await film(engine, story, way));
  const file = `transitions-${index + 1}.webp`;
  await strip(rows, `docs/results/${file}`);
  lines.push(`## From “${story[0]}” to “${story[1]}”`, '', `![frames](${file})`, '');
  lines.push('| row | recaches | each, ms |', '|---|---:|---:|');
  for (const [at, { recaches, recacheMilliseconds }] of rows.entries()) {
    lines.push(`| ${nameOf(WAYS[at])} | ${recaches} | ${Math.round(recacheMilliseconds / recaches)} |`);
  }
  lines.push('');
}
await writeFile('docs/results/transitions.md', lines.join('\n'));
await engine.close();
