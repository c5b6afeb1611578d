/**
 * Installs what a folder's own package-lock.json names, unless that is there already: what only documents, publishes or shows is kept out
 * of the service's own, so that nobody waits for it to see the first picture. `node scripts/install.mjs tools`
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const read = (file) => {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
};

for (const folder of process.argv.slice(2)) {
  const directory = join(import.meta.dirname, '..', folder);
  const lock = join(directory, 'package-lock.json');
  const installed = join(directory, 'node_modules', '.installed');
  if (read(installed) === read(lock)) continue;
  execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--ignore-scripts'], {
    cwd: directory,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  copyFileSync(lock, installed);
}
