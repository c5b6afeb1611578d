/**
 * How well the native core's pictures follow their prompts: generates the stories that the training package writes, and has
 * its judge look at them.
 *
 *   npm run bench:adherence -- [--count 24] [--precision bf16] [--python PATH] [--out bench/results/FILE.json]
 */
import { execFileSync } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { finished } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import type { NativeModel } from '../src/engine/addon.js';
import { loadAddon, type Precision, Tokenizer } from '../src/engine/index.js';

interface Case {
  name: string;
  seed: number;
  blocks: number;
  timeline: { block: number; prompt: string }[];
}

interface Config {
  dit: { textLen: number };
  video: { width: number; height: number };
}

const root = resolve(import.meta.dirname, '..');
const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '24' },
    precision: { type: 'string', default: 'bf16' },
    threads: { type: 'string', default: '2' },
    python: { type: 'string', default: process.env.LONGLIVE_PYTHON ?? 'python3' },
    package: { type: 'string', default: join(root, 'models/pocket') },
    out: { type: 'string' },
  },
});

function evaluate(...args: string[]): string {
  const command = ['-m', 'longlive_training.evaluate', ...args];
  return execFileSync(values.python, command, { cwd: join(root, 'training'), encoding: 'utf8', maxBuffer: 1 << 26 });
}

async function generate(model: NativeModel, tokenizer: Tokenizer, story: Case, path: string): Promise<void> {
  const { video, dit } = model.config as Config;
  const { width, height } = video;
  const session = model.createSession({ seed: BigInt(story.seed), width, height, rope: 'package' });
  const file = createWriteStream(path);
  try {
    for (let block = 0; block < story.blocks; block += 1) {
      const turn = story.timeline.find((entry) => entry.block === block);
      if (turn) {
        const ids = tokenizer.encode(turn.prompt, dit.textLen);
        await session.setPrompt(await model.encodePrompt(ids), 'recache');
      }
      for (let step = await session.step(); step.kind !== 'context'; step = await session.step()) {
        if (step.kind === 'frames') file.write(session.lastRgb());
      }
    }
  } finally {
    session.dispose();
    file.end();
    await finished(file);
  }
}

const scratch = await mkdtemp(join(tmpdir(), 'longlive-adherence-'));
try {
  const cases = join(scratch, 'cases.json');
  evaluate('cases', '--out', cases, '--count', values.count);
  const tokenizer = Tokenizer.parse(await readFile(join(values.package, 'tokenizer.json'), 'utf8'));
  const model = await loadAddon().loadModel({
    directory: values.package,
    device: 'cpu',
    precision: values.precision as Precision,
    threads: Number(values.threads),
    decoder: 'full',
    isa: '',
  });
  const stories = JSON.parse(await readFile(cases, 'utf8')) as Case[];
  for (const [i, story] of stories.entries()) {
    process.stderr.write(`\r${i + 1}/${stories.length} ${story.name}`);
    await generate(model, tokenizer, story, join(scratch, `${story.name}.rgb`));
  }
  process.stderr.write('\n');
  model.dispose();
  const report = evaluate('videos', '--cases', cases, '--videos', scratch);
  console.log(report);
  const date = new Date().toISOString().slice(0, 10);
  await writeFile(values.out ?? join(root, `bench/results/adherence-${values.precision}-${date}.json`), report);
} finally {
  await rm(scratch, { recursive: true, force: true });
}
