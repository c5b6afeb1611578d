/** The tables of docs/models.md, between their marks. */

import { readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Rehearsal } from './import.js';

interface Fuzz {
  files: number;
  accepted: number;
  refused: number;
  failures: number;
  seconds: number;
  /** Of the processor; the rest of the time others had it. */
  processorSeconds?: number;
  peakMemoryBytes: number;
}

const PAGE = join(resolve(import.meta.dirname, '..'), 'docs/models.md');

export async function writeTables(rehearsal: string | undefined, fuzz: readonly string[]): Promise<void> {
  let page = await readFile(PAGE, 'utf8');
  if (rehearsal) page = between(page, 'rehearsal', rehearsalText(await read<Rehearsal>(rehearsal)));
  const runs = await Promise.all(fuzz.map((path) => read<Fuzz>(path)));
  if (runs.length > 0) page = between(page, 'fuzz', runs.map(fuzzText).join('\n'));
  await writeFile(PAGE, page);
}

async function read<T>(path: string): Promise<T> {
  return JSON.parse(await readFile(path, 'utf8')) as T;
}

function between(page: string, name: string, text: string): string {
  const [begin, end] = [`<!-- ${name}: made by bench/import.ts -->`, `<!-- end of ${name} -->`];
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`docs/models.md lacks the marks of ${name}.`);
  return `${page.slice(0, from + begin.length)}\n\n${text}\n\n${page.slice(to)}`;
}

function rehearsalText({ date, cpu, threads, memoryBytes, load, checkpoints, disk, runs }: Rehearsal): string {
  const source = checkpoints.reduce((sum, { bytes }) => sum + bytes, 0);
  const rows = runs.map(({ precision, textEncoder, video, ...run }) => [
    ...[precision, textEncoder, gb(run.packageBytes), run.importSeconds.toFixed(0), mb(run.importPeakBytes)],
    ...[run.verifySeconds.toFixed(0), video ? video.firstChunkSeconds.toFixed(0) : ''],
    ...[video ? video.seconds.toFixed(0) : '', video ? gb(video.peakBytes) : ''],
  ]);
  const video = runs.find((run) => run.video)?.video;
  return [
    `${date}, ${cpu}, ${threads} threads, ${gb(memoryBytes)} of memory, load ${load.toFixed(1)} at the start. ` +
      `Checkpoints of ${gb(source)}: reading them takes ${disk.readSeconds.toFixed(0)} s, writing ${gb(disk.writtenBytes)} ` +
      `${disk.writeSeconds.toFixed(0)} s.` +
      (video ? ` One block is ${video.frames} frames of ${video.size}, ${video.decoder} decoder.` : ''),
    '',
    '| video network | text encoder | package | import s | import peak | verify s | first block s | start to MP4 s | block peak |',
    '|---|---|---|---|---|---|---|---|---|',
    ...rows.map((row) => `| ${row.join(' | ')} |`),
  ].join('\n');
}

function fuzzText({ seconds, processorSeconds, ...run }: Fuzz): string {
  const processor =
    processorSeconds === undefined ? '' : `, ${(processorSeconds / 60).toFixed(0)} of them on the processor`;
  return (
    `* ${run.files} damaged files in ${(seconds / 60).toFixed(0)} minutes${processor}: ${run.accepted} still readable, ` +
    `${run.refused} refused, ${run.failures} crashes or hangs; at most ${mb(run.peakMemoryBytes)}.`
  );
}

function gb(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

function mb(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}
