import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

/** What `import` and `export … from` at the top of a module load with it; types and `import()` load nothing. */
const STATIC = /^(?:import|export)\s+(?!type\b)(?:[^'";]*?\sfrom\s+)?'([^']+)'/gm;

/** All packages that a module of ours loads with it, directly or through others of ours. */
function packagesOf(entry: URL, seen = new Set<string>(), packages = new Set<string>()): Set<string> {
  if (seen.has(entry.href)) return packages;
  seen.add(entry.href);
  for (const [statement, name = ''] of readFileSync(entry, 'utf8').matchAll(STATIC)) {
    if (/^import\s*\{\s*(?:type\s[^,}]+,?\s*)+\}/.test(statement)) continue;
    if (name.startsWith('.')) packagesOf(new URL(name.replace(/\.js$/, '.ts'), entry), seen, packages);
    else if (!name.startsWith('node:')) packages.add(name);
  }
  return packages;
}

const packagesOfCommand = (name: string) => [...packagesOf(new URL(`../../../src/cli/${name}.ts`, import.meta.url))];

it('starts with nothing but the parser of the command line', () => {
  expect(packagesOfCommand('main')).toEqual(['commander']);
});

it.each(['generate', 'quantize', 'serve', 'models', 'import', 'doctor'])(
  'loads nothing for %s that its first second can do without',
  (command) => {
    const packages = packagesOfCommand(command);
    expect(packages).toContain('zod');
    for (const heavy of [/^@aws-sdk\//, /^sharp$/, /^@?graphql/, /^@pothos\//, /^prom-client$/]) {
      expect(packages.filter((name) => heavy.test(name))).toEqual([]);
    }
  },
);
