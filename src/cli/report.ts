/** What `longlive generate` measured. */

import type { FrameChunk, ModelInfo, PromptApplied, Rehearsal, Session, StoredEvent } from '../sessions/index.js';

export interface Report {
  out: string;
  frames: number;
  seconds: number;
  width: number;
  height: number;
  /** Frames per second of device time. */
  generationFps: number;
  /** Frames per second from the request to the last chunk, with encoding and storing. */
  endToEndFps: number;
  firstChunkMilliseconds: number;
  /** The same from the start of the process: with its modules and the model's weights. */
  coldStartMilliseconds: number;
  blockMilliseconds: { p50: number; p90: number };
  /** Of each prompt switch: rebuilding the cache. */
  recacheMilliseconds: number[];
  /** Of each prompt switch: from the chunk before it to the first one with the new prompt. */
  switchMilliseconds: number[];
  peakMemoryBytes: number;
  device: string;
  precision: string;
  threads: number;
  package: { name: string; version: string; digest: string };
  seed: string;
}

export interface ReportInput {
  session: Session;
  events: readonly StoredEvent[];
  model: ModelInfo | undefined;
  /** When the process began. */
  startedAt: number;
  requestedAt: number;
  out: string;
  threads: number;
}

export function report({ session, events, model, startedAt, requestedAt, out, threads }: ReportInput): Report {
  const chunks = events.filter((event): event is FrameChunk => event.type === 'FrameChunk');
  const switches = events.filter((event): event is PromptApplied => event.type === 'PromptApplied' && event.block > 0);
  const blocks = chunks.map(({ generateMilliseconds }) => generateMilliseconds);
  const recaches = switches.map(({ recacheMilliseconds }) => recacheMilliseconds);
  const deviceSeconds = (sum(blocks) + sum(recaches)) / 1_000;
  const wallSeconds = ((chunks.at(-1)?.at ?? requestedAt) - requestedAt) / 1_000;
  return {
    out,
    frames: session.frames,
    seconds: session.seconds,
    width: session.width,
    height: session.height,
    generationFps: rounded(session.frames / deviceSeconds),
    endToEndFps: rounded(session.frames / wallSeconds),
    firstChunkMilliseconds: (chunks[0]?.at ?? requestedAt) - requestedAt,
    coldStartMilliseconds: Math.round((chunks[0]?.at ?? requestedAt) - startedAt),
    blockMilliseconds: { p50: quantile(blocks, 0.5), p90: quantile(blocks, 0.9) },
    recacheMilliseconds: recaches.map(rounded),
    switchMilliseconds: switches.map(({ block }) => (chunks[block]?.at ?? 0) - (chunks[block - 1]?.at ?? 0)),
    // Linux and macOS both report kibibytes here.
    peakMemoryBytes: process.resourceUsage().maxRSS * 1_024,
    device: model?.device ?? '',
    precision: model?.precision ?? '',
    threads,
    package: { name: session.model, version: model?.version ?? '', digest: session.modelDigest },
    seed: String(session.seed),
  };
}

/** For whoever wants an endless video of a model that has none. */
export function endNotice({ name, longestSeconds }: ModelInfo): string {
  return (
    `Model "${name}" has absolute positions: its sessions end after ${Math.floor(longestSeconds ?? 0)} s. ` +
    `For endless sessions: --rope relative, or longlive models configure ${name} rope=relative`
  );
}

/** Of what is played: a machine does other things, too. */
const ENOUGH = 1.2;

/** How fast this machine is with a model, and what to do where that is too slow. */
export function speedNotice({ model, speed, complete }: Rehearsal): { enough: boolean; text: string } {
  const { name, precision, width, height } = model;
  const made = `${complete ? '' : 'at most '}${speed.toPrecision(2)} s of video in a second`;
  const text = `This machine makes ${made} (model ${name}, ${precision}, ${width}x${height})`;
  if (speed >= ENOUGH) return { enough: true, text: `${text}.` };
  const slow =
    speed < 1 ? 'that is slower than it plays, so live videos will stall' : 'that is hardly faster than it plays';
  const ways = [...(precision === 'int8' ? [] : ['--precision int8']), 'a smaller size', 'a faster machine'];
  return { enough: false, text: `${text}: ${slow}. Try ${ways.join(', or ')}.` };
}

/** The same for people. */
export function summary(result: Report): string {
  const { p50, p90 } = result.blockMilliseconds;
  return [
    `${result.out}: ${result.frames} frames, ${result.seconds.toFixed(2)} s, ${result.width}x${result.height}, seed ${result.seed}`,
    `${result.generationFps} frames/s on ${result.device} (${result.precision}), ${p50} ms per block (p90 ${p90})`,
    ...result.switchMilliseconds.map(
      (milliseconds, i) => `switch ${i + 1}: ${milliseconds} ms, of which ${result.recacheMilliseconds[i]} ms recache`,
    ),
  ].join('\n');
}

/** Nearest rank. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return rounded(sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? 0);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function rounded(value: number): number {
  return Number.isFinite(value) ? Math.round(value * 100) / 100 : 0;
}
