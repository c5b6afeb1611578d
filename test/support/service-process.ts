/** `longlive serve` as it was built last (`npm run build:ts`), as a process of its own, with the toy package on the native core and the real encoder. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { query } from './test-server.js';
import { writeToyPackage } from './toy-package.js';

export const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const START_MS = 120_000;

export interface ServiceOptions {
  store: string;
  /** `LONGLIVE_…` by their short names: `IDLE_SECONDS`. */
  settings?: Record<string, string | number>;
  environment?: NodeJS.ProcessEnv;
}

let models: string | undefined;

/** The toy package, written once and removed with the process. */
function modelsFolder(): string {
  if (models === undefined) {
    const made = mkdtempSync(join(tmpdir(), 'longlive-toy-'));
    process.once('exit', () => rmSync(made, { recursive: true, force: true }));
    writeToyPackage(made);
    models = made;
  }
  return models;
}

export class ServiceProcess {
  /** Of the process, one entry a line. */
  readonly log: { level: number; msg: string; [field: string]: unknown }[] = [];
  readonly exited: Promise<number | NodeJS.Signals>;
  /** Milliseconds from its start until it listened. */
  listeningAfter = 0;
  url = '';

  private constructor(private readonly child: ChildProcess) {
    this.exited = once(child, 'exit').then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals);
  }

  static async start({ store, settings = {}, environment = {} }: ServiceOptions): Promise<ServiceProcess> {
    const began = performance.now();
    const given = Object.entries({ ...DEFAULTS, ...settings, STORE: store });
    const child = spawn(process.execPath, [MAIN, 'serve'], {
      env: {
        ...process.env,
        ...environment,
        ...Object.fromEntries(given.map(([name, value]) => [`LONGLIVE_${name}`, String(value)])),
        LONGLIVE_MODELS: modelsFolder(),
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const killWithTests = (): void => void child.kill('SIGKILL');
    process.once('exit', killWithTests);
    child.once('exit', () => process.off('exit', killWithTests));
    const service = new ServiceProcess(child);
    service.url = await service.listens();
    service.listeningAfter = performance.now() - began;
    return service;
  }

  /** Of the process, for what the system says of it. */
  get pid(): number {
    return this.child.pid as number;
  }

  query<Data>(document: string, variables: object = {}): Promise<Data> {
    return query<Data>(this.url, document, variables);
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Ends it, by force if it must be. */
  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill('SIGKILL');
    await this.exited;
  }

  logged(text: string | RegExp): boolean {
    return this.log.some((entry) => JSON.stringify(entry).search(text) >= 0);
  }

  private async listens(): Promise<string> {
    let url: string | undefined;
    let rest = '';
    this.child.stdout?.on('data', (bytes: Buffer) => {
      const lines = (rest + bytes.toString()).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        url ??= /ready at (http\S+)/.exec(line)?.[1];
        if (line.startsWith('{')) this.log.push(JSON.parse(line) as (typeof this.log)[number]);
      }
    });
    const deadline = performance.now() + START_MS;
    while (url === undefined) {
      if (this.child.exitCode !== null)
        throw new Error(`exited with ${this.child.exitCode}: ${JSON.stringify(this.log)}`);
      if (performance.now() > deadline) throw new Error(`does not listen: ${JSON.stringify(this.log)}`);
      await sleep(20);
    }
    return url;
  }
}

const DEFAULTS = {
  REHEARSAL_SECONDS: 0,
  HOST: '127.0.0.1',
  PORT: 0,
  DEVICE: 'cpu',
  THREADS: 1,
  ENCODER_THREADS: 1,
  SIGNING_KEY: 'for tests of faults only',
  LOG_LEVEL: 'info',
  HEARTBEAT_SECONDS: 1,
};
