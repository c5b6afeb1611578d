import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

interface Line {
  level?: number;
  msg?: string;
  origin?: string;
  error?: { type: string; message: string; stack: string; detail?: string };
  problems?: string[];
  states?: object;
}

/** How a service ends that meets this, and all that it says. */
function meet(surprise: string): Promise<{ code: number; lines: Line[] }> {
  const script = fileURLToPath(new URL('../../support/surprised.ts', import.meta.url));
  return new Promise((resolve) => {
    execFile(process.execPath, ['--import', 'tsx', script, surprise], (error, stdout) => {
      const lines = stdout.split('\n').filter((line) => line.startsWith('{'));
      resolve({ code: Number(error?.code ?? 0), lines: lines.map((line) => JSON.parse(line) as Line) });
    });
  });
}

describe('what nobody foresaw', { timeout: 120_000 }, () => {
  test.each([
    ['exception', { type: 'SyntaxError' }, 'uncaughtException'],
    ['rejection', { type: 'TypeError', message: 'unforeseen', detail: 'what it carries' }, 'unhandledRejection'],
    ['nothing', { message: 'Thrown without an Error: undefined' }, 'unhandledRejection'],
    ['symbol', { message: 'Thrown without an Error: { message: Symbol(within) }' }, 'unhandledRejection'],
    ['stack', { message: 'its stack throws', stack: '(cannot be read)' }, 'unhandledRejection'],
    ['getter', { message: 'a detail throws', detail: '(cannot be read)' }, 'unhandledRejection'],
    ['proxy', { message: '(cannot be read)' }, 'unhandledRejection'],
  ])(
    '%s: logged with all it carries, not ready, all closed, and a code to start again on',
    async (what, error, origin) => {
      const { code, lines } = await meet(what);
      expect(code).toBe(1);
      const fatal = lines.find(({ level }) => level === 60);
      expect(fatal).toMatchObject({ origin, error });
      if (what === 'exception' || what === 'rejection') expect(fatal?.error?.stack).toContain('surprised.ts');
      expect(lines.find(({ problems }) => problems)?.problems).toEqual([
        'Internal error: the service is about to restart.',
      ]);
      expect(lines.some(({ states }) => states)).toBe(true);
    },
  );

  test('more of it on the way out is logged, and nothing is done twice', async () => {
    const { code, lines } = await meet('twice');
    expect(code).toBe(1);
    expect(lines.filter(({ level }) => level === 60)).toHaveLength(2);
    expect(lines.filter(({ problems }) => problems)).toHaveLength(1);
  });

  test('an end that hangs is bounded in time', async () => {
    const { code, lines } = await meet('hang');
    expect(code).toBe(1);
    expect(lines.some(({ problems }) => problems)).toBe(true);
  });
});
