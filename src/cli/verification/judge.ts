/** What is wrong with films, if anything: the checks of a report. */

import type { Case } from './cases.js';
import type { Film, Size } from './film.js';
import { difference, lumaOf, psnr, smoothness, spread } from './pictures.js';

export interface Check {
  /** Name of the case; absent for what concerns all of them. */
  case?: string;
  check: string;
  status: 'ok' | 'note' | 'failed';
  /** What was found, beside what is asked for. */
  detail: string;
}

export interface Expected extends Size {
  fps: number;
  /** Of latents. */
  framesPerBlock: number;
  blocks: number;
}

/** Below these a picture is grey, noise or frozen; those of working packages are far above. */
const LEAST = { deviation: 4, smoothness: 0.5, motion: 0.3, change: 2 };
const LATENT_DEVIATION = { least: 0.1, most: 5 };
/** Pictures of the first block, in decibels: the same; alike, as other arithmetic or another decoder makes them. */
const PSNR = { same: 30, alike: 20 };

export function judgeFilm({ name }: Case, film: Film, expected: Expected): Check[] {
  const says = (check: string, passed: boolean, detail: string): Check => ({
    ...{ case: name, check, status: passed ? 'ok' : 'failed', detail },
  });
  const { values, notFinite, deviation } = film.latents;
  const lumas = lumaOf(film.blocks);
  const shapes = wrongShapes(film, expected);
  const checks = [
    says('shapes', shapes === undefined, shapes ?? `${lumas.length} pictures of ${expected.width}x${expected.height}`),
    says('latents are numbers', notFinite === 0, `${notFinite} of ${values} are none`),
    says(
      'latents are spread as they should be',
      deviation >= LATENT_DEVIATION.least && deviation <= LATENT_DEVIATION.most,
      `standard deviation ${deviation.toFixed(2)}, asked for ${LATENT_DEVIATION.least} to ${LATENT_DEVIATION.most}`,
    ),
  ];
  if (shapes !== undefined) return checks;
  const least = (of: readonly number[]): number => Math.min(...of);
  const contrast = median(lumas.map((luma) => spread(luma).deviation)); // a single picture may be of the night
  const smooth = least(lumas.map((luma) => smoothness(luma, expected.width)));
  const motion = difference(lumas[0]!, lumas.at(-1)!) / 2 + meanStep(lumas);
  return [
    ...checks,
    says('not grey', contrast >= LEAST.deviation, `contrast ${contrast.toFixed(1)}, at least ${LEAST.deviation}`),
    says(
      'not noise',
      smooth >= LEAST.smoothness,
      `likeness of neighbours ${smooth.toFixed(2)}, at least ${LEAST.smoothness}`,
    ),
    says('not frozen', motion >= LEAST.motion, `change ${motion.toFixed(2)} of 255, at least ${LEAST.motion}`),
  ];
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
}

function wrongShapes({ blocks }: Film, { width, height, framesPerBlock, blocks: count }: Expected): string | undefined {
  if (blocks.length !== count) return `${blocks.length} blocks of ${count}`;
  const wrong = blocks.find(
    (frames, i) =>
      frames.width !== width ||
      frames.height !== height ||
      frames.count !== framesOf(i, framesPerBlock) ||
      frames.i420.length !== (frames.count * width * height * 3) / 2,
  );
  return wrong && `block ${wrong.block} is ${wrong.count} pictures of ${wrong.width}x${wrong.height}`;
}

/** A latent frame is four pictures, the very first one. */
const framesOf = (block: number, framesPerBlock: number): number => 4 * framesPerBlock - (block === 0 ? 3 : 0);

function meanStep(lumas: readonly Uint8Array[]): number {
  const steps = lumas.slice(1).map((luma, i) => difference(luma, lumas[i]!));
  return steps.reduce((sum, step) => sum + step, 0) / Math.max(1, steps.length);
}

/** That the same seed and prompt give the same pictures, and another prompt others. */
export function judgeTogether(cases: readonly Case[], films: readonly Film[]): Check[] {
  const switchBlock = cases[1]?.prompts[1]?.block ?? 0;
  const lumas = films.map(({ blocks }) => blocks.map((frames) => lumaOf([frames])));
  const [plain, switched, other] = lumas;
  if (!plain || !switched || !other) return [];
  const before = distance(plain.slice(0, switchBlock).flat(), switched.slice(0, switchBlock).flat());
  const after = distance(plain.slice(switchBlock).flat(), switched.slice(switchBlock).flat());
  const apart = distance(plain.flat(), other.flat());
  const changes = (check: string, by: number): Check => ({
    ...{ check, status: by >= LEAST.change ? 'ok' : 'failed' },
    detail: `${by.toFixed(2)} of 255 apart, at least ${LEAST.change}`,
  });
  return [
    {
      ...{ check: 'the same seed and prompt give the same pictures', status: before === 0 ? 'ok' : 'failed' },
      detail: `${before.toFixed(3)} of 255 apart`,
    },
    ...(switched.length > switchBlock ? [changes('a new prompt changes the pictures', after)] : []),
    changes('another prompt and seed give other pictures', apart),
  ];
}

function distance(a: readonly Uint8Array[], b: readonly Uint8Array[]): number {
  const each = a.slice(0, b.length).map((picture, i) => difference(picture, b[i]!));
  return each.reduce((sum, value) => sum + value, 0) / Math.max(1, each.length);
}

export interface Speed {
  framesPerSecond: number;
  firstBlockMilliseconds: number;
  recacheMilliseconds: number | null;
}

/** The first block, which also warms up, apart from the others. */
export function speedOf(films: readonly Film[]): Speed {
  const later = films.flatMap(({ blocks, milliseconds }) =>
    blocks.map(({ count }, i) => ({ count, ms: milliseconds[i]! })).slice(1),
  );
  const frames = later.reduce((sum, { count }) => sum + count, 0);
  const spent = later.reduce((sum, { ms }) => sum + ms, 0);
  const recaches = films.flatMap(({ recacheMilliseconds }) => recacheMilliseconds);
  return {
    framesPerSecond: frames / (spent / 1000),
    firstBlockMilliseconds: films[0]?.milliseconds[0] ?? NaN,
    recacheMilliseconds: recaches.length === 0 ? null : recaches.reduce((a, b) => a + b, 0) / recaches.length,
  };
}

export function judgeSpeed({ framesPerSecond }: Speed, { fps }: Expected): Check {
  const keepsUp = framesPerSecond >= fps;
  return {
    ...{ check: 'keeps up with playback', status: keepsUp ? 'ok' : 'note' },
    detail: `${framesPerSecond.toFixed(1)} pictures per second of ${fps}`,
  };
}

/** Rounding grows from block to block: pictures are compared in the first one, later ones by their brightness and contrast. */
export function judgeReference({ name }: Case, film: Film, reference: readonly Uint8Array[]): Check[] {
  const ours = lumaOf(film.blocks).slice(0, reference.length);
  if (ours.length === 0 || ours[0]!.length !== reference[0]!.length)
    return [{ case: name, check: 'as the reference', status: 'failed', detail: 'its pictures have another size' }];
  const first = film.blocks[0]!.count;
  const decibels = Math.min(...ours.slice(0, first).map((luma, i) => psnr(luma, reference[i]!)));
  const shift = Math.max(...ours.map((luma, i) => Math.abs(spread(luma).mean - spread(reference[i]!).mean)));
  const [a, b] = [ours, reference].map(
    (all) => all.reduce((sum, luma) => sum + spread(luma).deviation, 0) / all.length,
  );
  const ratio = a! / Math.max(1e-9, b!);
  return [
    {
      ...{ case: name, check: 'the first block is as the reference' },
      status: decibels >= PSNR.same ? 'ok' : decibels >= PSNR.alike ? 'note' : 'failed',
      detail: `${decibels.toFixed(1)} dB at the worst picture; ${PSNR.same} is the same, below ${PSNR.alike} another`,
    },
    {
      ...{ case: name, check: 'brightness and contrast are as the reference' },
      status: shift <= 15 && ratio >= 0.6 && ratio <= 1.6 ? 'ok' : 'failed',
      detail: `brightness at most ${shift.toFixed(1)} of 255 apart, contrast ${ratio.toFixed(2)} times as strong`,
    },
  ];
}
