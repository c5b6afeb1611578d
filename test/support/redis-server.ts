/** A real Redis for tests: Debian's `redis-server` (or Valkey's), on a free loopback port and without a file. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { freePort } from './s3-server.js';

const START_TIMEOUT_MS = 20_000;

export class RedisServer {
  private server: ChildProcess | undefined;

  private constructor(
    readonly port: number,
    readonly client: Redis,
  ) {}

  /** Rejects when the program is missing or does not answer. */
  static async start(): Promise<RedisServer> {
    const port = await freePort();
    const client = new Redis(port, '127.0.0.1', { lazyConnect: true, maxRetriesPerRequest: null });
    client.on('error', () => undefined);
    const redis = new RedisServer(port, client);
    await redis.begin();
    return redis;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** After `stop`: the same address, and nothing in memory. */
  async begin(): Promise<void> {
    const server = spawn(
      'redis-server',
      ['--port', String(this.port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'],
      { stdio: 'ignore' },
    );
    const failed = new Promise<never>((_, reject) => {
      server.once('error', (error) =>
        reject(new Error(`redis-server cannot be started; install it (Debian: redis-server): ${error.message}`)),
      );
    });
    failed.catch(() => undefined);
    const killWithTests = (): void => void server.kill('SIGKILL');
    process.once('exit', killWithTests);
    server.once('exit', () => process.off('exit', killWithTests));
    this.server = server;
    await Promise.race([failed, this.answers()]);
  }

  /** As a machine that hangs does. */
  pause(): void {
    this.server?.kill('SIGSTOP');
  }

  resume(): void {
    this.server?.kill('SIGCONT');
  }

  async stop(): Promise<void> {
    const { server } = this;
    this.server = undefined;
    if (!server || server.exitCode !== null || server.signalCode !== null) return;
    const exited = once(server, 'exit');
    server.kill('SIGKILL');
    await exited;
  }

  async end(): Promise<void> {
    this.client.disconnect();
    await this.stop();
  }

  private async answers(): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    if (this.client.status === 'wait') await this.client.connect().catch(() => undefined);
    while (Date.now() < deadline) {
      if (this.client.status === 'ready' && (await this.client.ping()) === 'PONG') return;
      await sleep(20);
    }
    throw new Error('redis-server does not answer');
  }
}
