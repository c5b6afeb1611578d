/** Timelines as files: ours, LongLive's lines of prompts, scope's timeline. What comes from a file is looked at once, here. */
import type { SessionFacts } from '@longlive/client';
import { isApplied, type Prompt } from './prompts';
import { PROMPT_CHARACTERS } from './setup';

export interface Entry {
  readonly atSeconds: number;
  readonly prompt: string;
  readonly mode?: 'RECACHE' | 'KEEP_CACHE' | 'CLEAR_CACHE';
  readonly overSeconds?: number;
}

export interface Timeline {
  readonly entries: readonly Entry[];
  readonly seed?: string;
  readonly maxSeconds?: number;
}

export class TimelineError extends Error {}

/** The service's limit. */
const MOST_ENTRIES = 200;
const MOST_CHARACTERS = 2_000_000;
const LONGEST_SECONDS = 3600;
/** LongLive's examples change the prompt every 40 latent frames of 4 frames, at 16 frames a second. */
const LONGLIVE_SECONDS = 10;
const FORMAT = 'longlive-timeline';

export function timelineText({ seed, seconds }: SessionFacts, prompts: readonly Prompt[]): string {
  const entries = prompts.filter(isApplied).map((prompt): Entry => {
    const over = (prompt.wholeSeconds ?? prompt.seconds) - prompt.seconds;
    return {
      atSeconds: round(prompt.seconds),
      prompt: prompt.prompt,
      ...(over > 0.01 && { overSeconds: round(over) }),
    };
  });
  return `${JSON.stringify({ format: FORMAT, version: 1, seed, maxSeconds: round(seconds), entries }, null, 2)}\n`;
}

/** Throws a `TimelineError` that says what is wrong. */
export function readTimeline(text: string): Timeline {
  if (text.length > MOST_CHARACTERS) throw new TimelineError('The file is too large for a timeline.');
  const values = parse(text);
  const timeline = ours(values) ?? scopes(values) ?? lines(values);
  if (!timeline || timeline.entries.length === 0)
    throw new TimelineError('This is no timeline that is known: one of this page, of LongLive or of scope.');
  return checked(timeline);
}

/** One JSON text, or one a line. */
function parse(text: string): unknown[] {
  try {
    return [JSON.parse(text)];
  } catch {
    const found = text.split('\n').filter((line) => line.trim() !== '');
    return found.map((line, index) => {
      try {
        return JSON.parse(line) as unknown;
      } catch {
        throw new TimelineError(`Line ${index + 1} is not JSON.`);
      }
    });
  }
}

type Fields = Readonly<Record<string, unknown>>;
const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const objects = (value: unknown): Fields[] => (Array.isArray(value) ? value.filter(isObject) : []);
const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
const number = (value: unknown): number | undefined =>
  typeof value === 'number' && Number.isFinite(value) ? value : undefined;

/** What this page saves; and `timeline.jsonl`, which the service keeps of a session. */
function ours(values: unknown[]): Timeline | undefined {
  const [file] = values;
  const saved = isObject(file) && file['format'] === FORMAT ? file : undefined;
  const found = saved ? objects(saved['entries']) : values.filter(isObject);
  const entries = found.flatMap((entry) => {
    const [at, prompt] = [number(entry['atSeconds'] ?? entry['seconds']), text(entry['prompt'])];
    if (at === undefined || prompt === undefined) return [];
    const whole = number(entry['wholeSeconds']);
    const over = number(entry['overSeconds']) ?? (whole === undefined ? 0 : whole - at);
    const mode = MODES.find((each) => each === entry['mode']);
    return [{ atSeconds: at, prompt, ...(mode && { mode }), ...(over > 0 && { overSeconds: over }) }];
  });
  if (entries.length === 0) return undefined;
  const [seed, maxSeconds] = [text(saved?.['seed']), number(saved?.['maxSeconds'])];
  return { entries, ...(seed && { seed }), ...(maxSeconds && { maxSeconds }) };
}

const MODES = ['RECACHE', 'KEEP_CACHE', 'CLEAR_CACHE'] as const;

/** `{prompts: [{startTime, endTime, prompts: [{text, weight}] | text}], settings}`; of mixtures the strongest is taken. */
function scopes([file]: unknown[]): Timeline | undefined {
  if (!isObject(file)) return undefined;
  const found = objects(file['prompts'] ?? (isObject(file['timeline']) ? file['timeline']['prompts'] : undefined));
  const entries = found.flatMap((entry) => {
    const at = number(entry['startTime']);
    const mixed = objects(entry['prompts']).sort((a, b) => (number(b['weight']) ?? 0) - (number(a['weight']) ?? 0));
    const prompt = text(mixed[0]?.['text']) ?? text(entry['text']);
    if (at === undefined || prompt === undefined) return [];
    const steps = number(entry['transitionSteps'] ?? entry['temporalInterpolationSteps']) ?? 0;
    return [{ atSeconds: at, prompt, ...(steps > 1 && { overSeconds: steps * 0.75 }) }];
  });
  if (entries.length === 0) return undefined;
  const ends = found.map((entry) => number(entry['endTime']) ?? 0);
  const settings = isObject(file['settings']) ? file['settings'] : {};
  const seed = number(settings['seed']);
  const last = Math.max(...ends);
  return { entries, ...(seed !== undefined && { seed: String(seed) }), ...(last > 0 && { maxSeconds: last }) };
}

/** LongLive's `interactive_example.jsonl`: a story a line, its prompts in a list. The first line counts. */
function lines([first]: unknown[]): Timeline | undefined {
  const lists = isObject(first) ? Object.values(first) : [first];
  const prompts = lists.find((list) => Array.isArray(list) && list.every((each) => typeof each === 'string'));
  if (!Array.isArray(prompts)) return undefined;
  const entries = prompts.map((prompt, index) => ({ prompt, atSeconds: index * LONGLIVE_SECONDS }));
  return { entries, maxSeconds: entries.length * LONGLIVE_SECONDS };
}

function checked({ entries, seed, maxSeconds }: Timeline): Timeline {
  if (entries.length > MOST_ENTRIES)
    throw new TimelineError(`The timeline has ${entries.length} prompts; at most ${MOST_ENTRIES} are taken.`);
  const sorted = [...entries].sort((one, other) => one.atSeconds - other.atSeconds);
  const start = sorted[0]?.atSeconds ?? 0;
  const moved = sorted.map((entry) => ({
    ...entry,
    atSeconds: round(entry.atSeconds - start),
    prompt: entry.prompt.trim(),
  }));
  moved.forEach(({ prompt, atSeconds }, index) => {
    if (prompt === '') throw new TimelineError(`Prompt ${index + 1} is empty.`);
    if ([...prompt].length > PROMPT_CHARACTERS)
      throw new TimelineError(`Prompt ${index + 1} has more than ${PROMPT_CHARACTERS} characters.`);
    if (atSeconds > LONGEST_SECONDS) throw new TimelineError(`Prompt ${index + 1} is later than an hour.`);
  });
  const whole = seed !== undefined && /^\d{1,20}$/.test(seed) ? seed : undefined;
  const end = maxSeconds === undefined ? undefined : Math.min(LONGEST_SECONDS, round(maxSeconds));
  return { entries: moved, ...(whole && { seed: whole }), ...(end && { maxSeconds: end }) };
}

const round = (seconds: number): number => Math.round(seconds * 1000) / 1000;
