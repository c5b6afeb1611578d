/** Asks a package for films and says what is wrong with them. */

import { cpus } from 'node:os';
import { withoutPaths } from '../../api/redact.js';
import { frameAt } from '../../media/media-factory.js';
import { toRgb } from '../../media/poster.js';
import type { Engine, Frames, ModelInfo } from '../../sessions/ports.js';
import { BLOCKS, type Case, CASES } from './cases.js';
import { film, type Film } from './film.js';
import { type Check, judgeFilm, judgeReference, judgeSpeed, judgeTogether, speedOf } from './judge.js';
import { lumaOfRgb } from './pictures.js';
import type { Reference } from './reference.js';
import { type Report, shownOf, type Strip, stripOf, titleOf } from './report.js';

export interface VerifyOptions {
  blocks?: number;
  /** Other than the package's own, for tests. */
  size?: { width: number; height: number };
  reference?: Reference | undefined;
  onProgress?: (what: Case) => void;
}

/** Never rejects for what a package does wrong: that is what the report is for. */
export async function verifyModel(
  engine: Engine,
  model: ModelInfo,
  { blocks = BLOCKS, size = model, reference, onProgress }: VerifyOptions = {},
): Promise<{ report: Report; strips: Strip[] }> {
  const { width, height } = size;
  const expected = { width, height, blocks, fps: model.fps, framesPerBlock: model.framesPerBlock };
  const [checks, films, strips]: [Check[], Film[], Strip[]] = [[], [], []];
  for (const what of CASES) {
    onProgress?.(what);
    try {
      const made = await film(engine, model.name, what, { width, height }, blocks);
      films.push(made);
      checks.push(...judgeFilm(what, made, expected), ...against(reference, what, made));
      strips.push(...(await stripsOf(what, made, reference)));
    } catch (error) {
      // A report is shared: it tells of files, not of where they are.
      const detail = withoutPaths(error instanceof Error ? error.message : String(error));
      checks.push({ case: what.name, check: 'generates', status: 'failed', detail });
    }
  }
  const speed = speedOf(films);
  if (films.length === CASES.length) checks.push(...judgeTogether(CASES, films));
  if (films.length > 0) checks.push(judgeSpeed(speed, expected));
  return { report: reportOf(model, { checks, speed, reference, size: { width, height }, blocks }), strips };
}

type Parts = Pick<Report, 'checks' | 'speed' | 'blocks'> &
  Pick<VerifyOptions, 'reference'> & { size: { width: number; height: number } };

function reportOf(model: ModelInfo, { checks, speed, reference, size, blocks }: Parts): Report {
  const { name, version, digest, license, device, precision, storedPrecision, fps } = model;
  return {
    formatVersion: 1,
    verdict: checks.some(({ status }) => status === 'failed') ? 'failed' : 'ok',
    date: new Date().toISOString(),
    package: { name, version, digest, license },
    size: { ...size, fps },
    arithmetic: { device, precision, storedPrecision },
    machine: { processor: cpus()[0]?.model.trim() ?? '', cores: cpus().length, node: process.versions.node },
    ...{ speed, reference: reference?.made ?? null, blocks, cases: CASES, checks },
  };
}

function against(reference: Reference | undefined, what: Case, made: Film): Check[] {
  if (!reference) return [];
  const theirs = reference.films.get(what.name);
  if (theirs) return judgeReference(what, made, theirs.rgb.map(lumaOfRgb));
  return [
    { case: what.name, check: 'as the reference', status: 'note', detail: 'the file has no pictures of this case' },
  ];
}

async function stripsOf(what: Case, { blocks }: Film, reference: Reference | undefined): Promise<Strip[]> {
  const pictures = blocks.flatMap((frames) => Array.from({ length: frames.count }, (_, i) => [frames, i] as const));
  const shown = shownOf(pictures.length);
  const title = titleOf(what);
  const strips = [{ title, bytes: await stripOf(shown.map((at) => rgbOf(...pictures[at]!))) }];
  const theirs = reference?.films.get(what.name);
  if (!theirs) return strips;
  const { width, height, rgb } = theirs;
  const same = shown.filter((at) => at < rgb.length).map((at) => ({ rgb: rgb[at]!, width, height }));
  return [...strips, { title: `${title}; the reference`, bytes: await stripOf(same) }];
}

function rgbOf(frames: Frames, index: number): { rgb: Uint8Array; width: number; height: number } {
  const { width, height } = frames;
  return { rgb: toRgb(frameAt(frames, index), width, height), width, height };
}
