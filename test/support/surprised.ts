/** A process of its own: a service that meets what nobody foresaw, as `longlive serve` does. The argument says what. */
import { endWhenUnforeseen } from '../../src/cli/crash.js';
import { EXIT } from '../../src/cli/failure.js';
import { createLog } from '../../src/cli/log.js';
import { startTestServer } from './test-server.js';

const server = await startTestServer({ settings: { readySeconds: 0 } });
const hang = process.argv[2] === 'hang';
endWhenUnforeseen({
  log: createLog('info'),
  notReady: (reason) => server.notReady(reason),
  close: async () => {
    const { problems } = (await (await fetch(`${server.url}/readyz`)).json()) as { problems: string[] };
    process.stdout.write(`${JSON.stringify({ problems })}\n`);
    if (hang) return new Promise<void>(() => setInterval(() => undefined, 1000));
    await server.close();
    process.stdout.write(`${JSON.stringify({ states: server.service.status().sessions })}\n`);
  },
  seconds: hang ? 1 : 30,
  exitCode: EXIT.bug,
});

const fail = (error: unknown) =>
  void Promise.resolve().then(() => {
    throw error;
  });
const refuse = (): never => {
  throw new Error('not to be read');
};
const later = () => void setImmediate(() => void JSON.parse('{'));
const surprises: Record<string, () => void> = {
  exception: later,
  rejection: () => fail(Object.assign(new TypeError('unforeseen'), { detail: 'what it carries' })),
  nothing: () => fail(undefined),
  symbol: () => fail({ message: Symbol('within') }),
  stack: () => fail(Object.defineProperty(new Error('its stack throws'), 'stack', { get: refuse })),
  getter: () => fail(Object.defineProperty(new Error('a detail throws'), 'detail', { get: refuse, enumerable: true })),
  proxy: () => fail(new Proxy(new Error('behind a proxy'), { get: refuse, getPrototypeOf: refuse, ownKeys: refuse })),
  twice: () => [later(), later()],
  hang: () => fail(new Error('and then it hangs')),
};
surprises[process.argv[2] ?? '']?.();
