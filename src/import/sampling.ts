/** What of a package's config.json may be chosen: how its network is sampled, and its native size and rate. */

import { printed } from '../files/printable.js';
import { z } from 'zod';
import { problemsOf } from '../files/schema-problems.js';
import { ImportError } from './errors.js';

const whole = (least: number, most: number) => z.number().int().min(least).max(most);

/** As the native core reads it (native/io/package.cpp). */
const samplingSchema = z
  .strictObject({
    framesPerBlock: whole(1, 256),
    windowFrames: whole(-1, 4096).refine((frames) => frames !== 0, 'must be -1 or positive'),
    sinkFrames: whole(0, 4096),
    rope: z.enum(['absolute', 'relative']),
    globalSink: z.boolean(),
    timestepShift: z.number().min(1e-3).max(1e3),
    denoisingSteps: z.array(whole(1, 1000)).min(1).max(64),
    warpDenoisingSteps: z.boolean(),
    contextNoise: z.number().min(0).max(1000),
  })
  .refine(
    ({ windowFrames, sinkFrames, framesPerBlock }) =>
      sinkFrames + framesPerBlock <= (windowFrames < 0 ? GLOBAL_FRAMES : windowFrames),
    { path: ['windowFrames'], message: 'must hold the sink and one block' },
  );
/** What -1 means: the reference's "global" attention. */
const GLOBAL_FRAMES = 21;

/** Pixels of a picture's side; native/include/longlive/types.h has the same limit. */
export const pictureSide = whole(16, 4096).multipleOf(16);
const videoSchema = z.strictObject({ width: pictureSide, height: pictureSide, fps: z.number().min(1).max(240) });

export type Sampling = z.infer<typeof samplingSchema>;
export type Video = z.infer<typeof videoSchema>;

const SECTIONS = { sampling: samplingSchema, video: videoSchema } as const;
type Section = keyof typeof SECTIONS;

/** As released with LongLive-1.3B. */
export const LONGLIVE_SAMPLING: Sampling = {
  framesPerBlock: 3,
  windowFrames: 12,
  sinkFrames: 3,
  rope: 'absolute',
  globalSink: true,
  timestepShift: 5,
  denoisingSteps: [1000, 750, 500, 250],
  warpDenoisingSteps: true,
  contextNoise: 0,
};
export const WAN_VIDEO: Video = { width: 832, height: 480, fps: 16 };

/** `sampling.rope=relative`: where it goes, and what. */
export interface Setting {
  section: Section;
  key: string;
  value: unknown;
}

/** Throws an ImportError that says what can be set. */
export function parseSetting(text: string): Setting {
  const [, section = '', key = '', value = ''] = /^(?:(\w+)\.)?(\w+)=(.*)$/s.exec(text.trim()) ?? [];
  const chosen = section === '' ? sectionOf(key) : isSection(section) ? section : undefined;
  if (chosen === undefined || !Object.hasOwn(SECTIONS[chosen].shape, key)) {
    throw new ImportError(
      printed`"${text}" is not a package setting; write KEY=VALUE with one of ${settingNames().join(', ')}.`,
    );
  }
  return { section: chosen, key, value: valueOf(value) };
}

export function settingNames(): string[] {
  return Object.entries(SECTIONS).flatMap(([section, { shape }]) =>
    Object.keys(shape).map((key) => `${section}.${key}`),
  );
}

/** The same configuration with settings changed; the whole is checked. */
export function applySettings<T extends { sampling: unknown; video: unknown }>(
  config: T,
  settings: readonly Setting[],
): T {
  const changed = structuredClone(config) as T & Record<Section, Record<string, unknown>>;
  for (const { section, key, value } of settings) changed[section] = { ...changed[section], [key]: value };
  for (const section of Object.keys(SECTIONS) as Section[]) {
    const parsed = SECTIONS[section].safeParse(changed[section]);
    if (parsed.success) continue;
    const issues = parsed.error.issues.map((issue) => ({ ...issue, path: [section, ...issue.path] }));
    throw new ImportError(printed`The settings cannot be used: ${problemsOf({ issues }, changed)}.`);
  }
  return changed;
}

function isSection(name: string): name is Section {
  return Object.hasOwn(SECTIONS, name);
}

function sectionOf(key: string): Section | undefined {
  return (Object.keys(SECTIONS) as Section[]).find((section) => Object.hasOwn(SECTIONS[section].shape, key));
}

/** Numbers, true and false as in JSON; `1000,750` is a list; anything else is text. */
function valueOf(text: string): unknown {
  if (/^-?\d+(?:\.\d+)?(?:,\s*-?\d+(?:\.\d+)?)+$/.test(text)) return text.split(',').map(Number);
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** Video frames of a latent frame; of the very first one there is one. */
const FRAMES_PER_LATENT = 4;

/** How long a video can be: where absolute positions end, for whole blocks only are made; null for ever. */
export function endSeconds({
  dit: { ropeTableLength },
  sampling: { rope, framesPerBlock },
  video: { fps },
}: {
  dit: { ropeTableLength: number };
  sampling: Pick<Sampling, 'rope' | 'framesPerBlock'>;
  video: Pick<Video, 'fps'>;
}): number | null {
  if (rope === 'relative') return null;
  const latents = Math.floor(ropeTableLength / framesPerBlock) * framesPerBlock;
  return latents === 0 ? 0 : (1 + FRAMES_PER_LATENT * (latents - 1)) / fps;
}
