/** `longlive models verify NAME`: films of a package, judged, in a report. */

import { open, writeFile } from 'node:fs/promises';
import { openEngine } from '../../engine/index.js';
import type { ServerConfig } from '../../server/config.js';
import { engineOptions } from '../backend.js';
import { EXIT, Failure } from '../failure.js';
import { complain, print } from '../terminal.js';
import { readReference, type Reference } from './reference.js';
import { page } from './report.js';
import { verifyModel } from './verify.js';

export interface VerifyFlags extends Record<string, unknown> {
  files?: boolean;
  report?: string;
  reference?: string;
  blocks?: number;
}

export async function verifyFilms(names: readonly string[], config: ServerConfig, flags: VerifyFlags): Promise<void> {
  if (names.length > 1 && flags.report !== undefined)
    throw new Failure(EXIT.usage, '--report names one file: verify one package at a time with it.');
  const reference = flags.reference === undefined ? undefined : await readReference(flags.reference);
  const failed: string[] = [];
  for (const name of names) failed.push(...(await verifyFilm(name, config, flags, reference)));
  if (failed.length > 0) throw new Failure(EXIT.generation, failed.join('\n'));
}

/** What is wrong with it. */
async function verifyFilm(
  name: string,
  config: ServerConfig,
  { report: file = `verify-${name}.html`, blocks }: VerifyFlags,
  reference: Reference | undefined,
): Promise<string[]> {
  // Films take minutes: whether the report has a place is asked first.
  await reporting(file, async () => (await open(file, 'a')).close());
  // Not loaded yet: a package that cannot be is worth a report too.
  await using engine = await openEngine({
    preload: false,
    ...engineOptions({ ...config, model: name }),
    warn: (message) => complain(`${message}\n`),
  });
  const model = engine.models().find((candidate) => candidate.name === name)!;
  const onProgress = (what: { name: string }) => complain(`${name}: film "${what.name}"\n`);
  const { report, strips } = await verifyModel(engine, model, { ...(blocks && { blocks }), reference, onProgress });
  await reporting(file, async () => {
    await writeFile(file, page(report, strips));
    await writeFile(`${file.replace(/\.html?$/, '')}.json`, `${JSON.stringify(report, null, 2)}\n`);
  });
  for (const check of report.checks) {
    print(`${check.status.padEnd(6)}  ${(check.case ?? 'all').padEnd(8)}  ${check.check}: ${check.detail}\n`);
  }
  print(`${name}: ${report.verdict}; the report is ${file}\n`);
  const wrong = report.checks.filter(({ status }) => status === 'failed');
  return wrong.map((check) => `${name}: ${check.case ?? 'all films'}: ${check.check}: ${check.detail}`);
}

async function reporting(file: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Failure(EXIT.storage, `The report ${file} cannot be written: ${why}. Name another file with --report.`);
  }
}
