/**
 * Writes THIRD_PARTY.md: what is shipped with the service that others wrote, with its licence and notices. Fails for a licence that is
 * not in the list, so that somebody looks at it. Run after `npm ci`; --check only looks at the licences.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
/** Licences under which others' code may be shipped here. LGPL: libvips, as a library of its own that anybody may replace. */
const ALLOWED = [
  'MIT',
  'ISC',
  '0BSD',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'Apache-2.0',
  'LGPL-3.0-or-later',
  'Unlicense',
  'CC0-1.0',
];

const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
const shipped = Object.entries(lock.packages).filter(
  ([path, { dev, link }]) => path.includes('node_modules/') && !dev && !link,
);

const packages = new Map();
for (const [path, { version, license = 'unknown' }] of shipped) {
  const name = path.split('node_modules/').at(-1);
  packages.set(`${name} ${version}`, { name, version, license, path });
}

const strange = [...packages.values()].filter(({ license }) => {
  const words = license.replaceAll(/[()]/g, '').split(/ (?:AND|OR) /);
  return !words.every((word) => ALLOWED.includes(word));
});
for (const { name, version, license } of strange)
  console.error(`${name} ${version}: the licence ${license} is not in the list of scripts/third-party.mjs`);
if (strange.length > 0) process.exit(1);
if (process.argv.includes('--check')) process.exit(0);

/** Licence and notice files, by their text. */
const texts = new Map();
for (const entry of packages.values()) {
  const directory = join(root, entry.path);
  const files = existsSync(directory)
    ? readdirSync(directory).filter((file) => /^(licen[cs]e|notice|copying)/i.test(file))
    : [];
  const text = files
    .map((file) => readFileSync(join(directory, file), 'utf8').trim().replaceAll('\r\n', '\n'))
    .join('\n\n');
  if (text !== '') texts.set(text, [...(texts.get(text) ?? []), entry.name]);
}

const rows = [...packages.values()]
  .sort((a, b) => (a.name < b.name ? -1 : 1))
  .map(({ name, version, license }) => `| ${name} | ${version} | ${license} |`);
const notices = [...texts].map(([text, names]) => `### ${[...new Set(names)].join(', ')}\n\n~~~text\n${text}\n~~~\n`);
const page = [
  '# Third-party software',
  '',
  'Made by `npm run notices` from package-lock.json: the packages that are installed with the service, their licences and their notices.',
  'The model that ships, and its data, are our own (models/pocket/README.md). H.264 is encoded by minih264 inside of h264-mp4-encoder.',
  '',
  '| package | version | licence |',
  '|---|---|---|',
  ...rows,
  '',
  '## Notices',
  '',
  ...notices,
].join('\n');
writeFileSync(join(root, 'THIRD_PARTY.md'), page);
console.log(`THIRD_PARTY.md: ${packages.size} packages`);
