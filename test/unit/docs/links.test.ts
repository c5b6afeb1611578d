import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const pages = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.md'], { cwd: root })
  .toString()
  .split('\n')
  // The generated reference links to headings that its generator leaves out.
  .filter((page) => page !== '' && !page.startsWith('docs/typescript/') && existsSync(join(root, page)));

/** Text in which links are links: without code. */
const prose = (page: string) =>
  readFileSync(join(root, page), 'utf8')
    .replace(/^ *(```|~~~).*?^ *\1/gms, '')
    .replace(/`[^`\n]*`/g, (code) => code.replace(/[[\]()]/g, ''));

/** As the page is shown: https://github.com/gjtorikian/html-pipeline, TableOfContentsFilter. */
const anchorOf = (heading: string) =>
  heading
    .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/[`*\\]/g, '')
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N}_ -]/gu, '')
    .replaceAll(' ', '-');

function anchorsOf(page: string): Set<string> {
  const headings = [...readFileSync(join(root, page), 'utf8').matchAll(/^#{1,6} (.*)$/gm)];
  const seen = new Map<string, number>();
  return new Set(
    headings.map(([, heading = '']) => {
      const anchor = anchorOf(heading);
      const before = seen.get(anchor) ?? 0;
      seen.set(anchor, before + 1);
      return before === 0 ? anchor : `${anchor}-${before}`;
    }),
  );
}

function brokenIn(page: string): string[] {
  const links = [...prose(page).matchAll(/\]\(<?([^)\s>]+)>?(?: "[^"]*")?\)|(?:src|href)="([^"]+)"/g)];
  return links
    .map(([, link, source]) => link ?? source ?? '')
    .filter((link) => !/^(?:[a-z][a-z+.-]*:|\/)/i.test(link) && !leads(page, link))
    .map((link) => `${page}: ${link}`);
}

function leads(page: string, link: string): boolean {
  const [path = '', anchor] = decodeURI(link).split('#');
  const target = path === '' ? page : resolve(root, dirname(page), path).slice(root.length).replace(/^\//, '');
  if (path !== '' && !existsSync(resolve(root, dirname(page), path))) return false;
  return anchor === undefined || !target.endsWith('.md') || anchorsOf(target).has(anchor);
}

it('every link of every page leads to a file and a heading that exist', () => {
  expect(pages.length).toBeGreaterThan(30);
  expect(pages.flatMap(brokenIn)).toEqual([]);
});
