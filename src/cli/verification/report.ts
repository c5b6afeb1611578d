/** One report of a package: JSON for programs, one page with strips for people. Nothing in it tells of places on this machine. */

import { escapeUTF8 } from 'entities';
import type { Case } from './cases.js';
import type { Check, Speed } from './judge.js';

export interface Report {
  formatVersion: 1;
  verdict: 'ok' | 'failed';
  date: string;
  package: { name: string; version: string; digest: string; license: string };
  size: { width: number; height: number; fps: number };
  arithmetic: { device: string; precision: string; storedPrecision: string | null };
  machine: { processor: string; cores: number; node: string };
  speed: Speed;
  reference: string | null;
  blocks: number;
  cases: readonly Case[];
  checks: readonly Check[];
}

export interface Strip {
  title: string;
  /** JPEG. */
  bytes: Uint8Array;
}

const SHOWN = 8;
const SHOWN_WIDTH = 208;

/** Pictures of a film from its first to its last, side by side. */
export async function stripOf(
  pictures: readonly { rgb: Uint8Array; width: number; height: number }[],
): Promise<Uint8Array> {
  const { default: sharp } = await import('sharp');
  const { width, height } = pictures[0]!;
  const w = Math.min(SHOWN_WIDTH, width);
  const h = Math.round((w * height) / width);
  const composed = pictures.map(async ({ rgb }, i) => ({
    input: await sharp(rgb, { raw: { width, height, channels: 3 } })
      .resize(w, h)
      .png()
      .toBuffer(),
    ...{ left: i * (w + 2), top: 0 },
  }));
  const canvas = { width: pictures.length * (w + 2) - 2, height: h, channels: 3, background: '#fff' } as const;
  return sharp({ create: canvas })
    .composite(await Promise.all(composed))
    .jpeg({ quality: 82 })
    .toBuffer();
}

/** Which of so many pictures a strip shows. */
export function shownOf(count: number): number[] {
  const shown = Math.min(SHOWN, count);
  return Array.from({ length: shown }, (_, i) => Math.round((i * (count - 1)) / Math.max(1, shown - 1)));
}

export function page(report: Report, strips: readonly Strip[]): string {
  const { name, version, digest, license } = report.package;
  const { width, height, fps } = report.size;
  const { framesPerSecond, firstBlockMilliseconds, recacheMilliseconds } = report.speed;
  const facts: [string, string][] = [
    ['Package', `${name} ${version}, ${license}`],
    ['Digest', digest],
    ['Pictures', `${width}x${height}, ${fps} per second; ${report.blocks} blocks a case`],
    [
      'Arithmetic',
      `${report.arithmetic.precision} on ${report.arithmetic.device}, stored as ${report.arithmetic.storedPrecision ?? 'unknown'}`,
    ],
    ['Machine', `${report.machine.processor}, ${report.machine.cores} cores, Node ${report.machine.node}`],
    [
      'Speed',
      `${framesPerSecond.toFixed(1)} pictures per second; first block ${seconds(firstBlockMilliseconds)}, a new prompt ${seconds(recacheMilliseconds)}`,
    ],
    ['Reference', report.reference ?? 'none was given'],
    ['Date', report.date],
  ];
  const rows = report.checks.map(
    ({ status, case: of, check, detail }) =>
      `<tr class="${status}"><td>${status}</td><td>${escapeUTF8(of ?? 'all')}</td><td>${escapeUTF8(check)}</td><td>${escapeUTF8(detail)}</td></tr>`,
  );
  const figures = strips.map(
    ({ title, bytes }) =>
      `<figure><figcaption>${escapeUTF8(title)}</figcaption><img alt="${escapeUTF8(title)}" src="data:image/jpeg;base64,${Buffer.from(bytes).toString('base64')}"></figure>`,
  );
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>${escapeUTF8(name)}: ${report.verdict}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 110rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top }
figure { margin: 1rem 0 } img { max-width: 100% } .failed { color: #b00020; font-weight: 600 } .note { color: #8a5a00 }
</style>
<h1>${escapeUTF8(name)} ${escapeUTF8(version)}: <span class="${report.verdict}">${report.verdict}</span></h1>
<table>${facts.map(([key, value]) => `<tr><th>${key}</th><td>${escapeUTF8(value)}</td></tr>`).join('\n')}</table>
<h2>Checks</h2>
<table><tr><th></th><th>Case</th><th>Check</th><th>Found</th></tr>
${rows.join('\n')}</table>
<h2>Pictures</h2>
${figures.join('\n')}
</html>
`;
}

const seconds = (milliseconds: number | null): string =>
  milliseconds === null ? 'not measured' : `${(milliseconds / 1000).toFixed(2)} s`;

/** What a strip is of. */
export function titleOf({ name, seed, prompts }: Case): string {
  const told = prompts.map(({ block, prompt }) => (block === 0 ? `“${prompt}”` : `from block ${block} “${prompt}”`));
  return `${name}, seed ${seed}: ${told.join(', ')}`;
}
