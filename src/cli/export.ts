import { open, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { printed } from '../files/printable.js';
import { createMediaFactory } from '../media/index.js';
import { counted } from '../import/index.js';
import { loadConfig } from '../server/config.js';
import { DomainError, exportParts } from '../sessions/index.js';
import { openExistingStore } from './backend.js';
import { EXIT, Failure } from './failure.js';
import { numberWithin, SECONDS } from './numbers.js';
import { addSettings } from './settings.js';
import { print } from './terminal.js';

interface Flags extends Record<string, unknown> {
  from?: number;
  to?: number;
  out: string;
}

/** `longlive export`: a part of a session into a file, straight from the store; no service has to run. */
export function exportCommand(): Command {
  const command = new Command('export')
    .description('export a part of a session as an MP4 with chapters, with its timeline in a second file')
    .argument('<session>', 'id of the session')
    .option(
      '--from <seconds>',
      'start of the part, rounded down to a chunk (default: the beginning)',
      numberWithin(SECONDS),
    )
    .option('--to <seconds>', 'end of the part (default: the end of the session)', numberWithin(SECONDS))
    .requiredOption('--out <file>', 'the MP4 file to write; the timeline goes to <file>.jsonl');
  return addSettings(command, ['store', 's3Endpoint', 's3Region']).action(run);
}

async function run(session: string, { from, to, ...flags }: Flags): Promise<void> {
  const config = loadConfig(process.env, flags);
  const store = openExistingStore(config);
  await using media = createMediaFactory();
  const out = resolve(flags.out);
  const range = { ...(from !== undefined && { fromSeconds: from }), ...(to !== undefined && { toSeconds: to }) };
  // The API calls it `Session:<id>`.
  const id = session.replace(/^Session:/, '');
  const parts = await exportParts({ store, media }, id, range).catch((error: unknown) => {
    if (!(error instanceof DomainError) || error.code !== 'NOT_FOUND') throw error;
    throw new Failure(
      EXIT.usage,
      printed`${config.store} has no session ${id}. \`longlive fsck --all\` lists those that it has.`,
    );
  });
  await writeFile(out, parts.video);
  await writeFile(`${out}.jsonl`, [parts.timeline]);
  print(
    `${out}: ${parts.fromSeconds.toFixed(2)} to ${parts.toSeconds.toFixed(2)} s of the session, ${counted(parts.chapters, 'chapter')}\n`,
  );
}

/** All of it or nothing. */
async function writeFile(path: string, body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void> {
  const file = await open(path, 'w').catch((error: unknown) => {
    throw new Failure(
      EXIT.storage,
      `${path} cannot be written: ${error instanceof Error ? error.message : String(error)}`,
    );
  });
  try {
    for await (const part of body) await file.appendFile(part);
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}
