import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { ServiceProcess } from '../../../../test/support/service-process.js';

const root = fileURLToPath(new URL('../../../../', import.meta.url));
if (!existsSync(join(root, 'packages/client/dist/index.js')))
  throw new Error('The kit is not built: npm run build:client');

test("the README's first client writes a film", async () => {
  const directory = mkdtempSync(join(tmpdir(), 'longlive-readme-'));
  const service = await ServiceProcess.start({ store: `file://${directory}/store` });
  try {
    const film = join(directory, 'live.mp4');
    const [, code] = /```js\n(.*?)```/s.exec(readFileSync(join(root, 'README.md'), 'utf8')) ?? [];
    const shorter = (code as string)
      .replaceAll("'live.mp4'", JSON.stringify(film))
      .replace('http://localhost:4000', service.url)
      .replace('maxSeconds: 15', "maxSeconds: 6, pace: 'FASTEST'")
      .replace('4000', '1');
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', shorter], {
      cwd: root,
    });
    expect(stdout).toMatch(/type: 'ended'/);
    const bytes = readFileSync(film);
    expect(bytes.toString('latin1', 4, 8)).toBe('ftyp');
    expect(bytes.length).toBeGreaterThan(5000);
  } finally {
    await service.stop();
    rmSync(directory, { recursive: true, force: true });
  }
});
