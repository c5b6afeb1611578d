/** SHA-256 on a thread of its own, so that hashing what has arrived holds up nothing that arrives. */

import { Worker } from 'node:worker_threads';

/** Shared with the thread, which reads them where they are. */
export type SharedBytes = Uint8Array<SharedArrayBuffer>;

interface Job {
  id: number;
  bytes?: SharedBytes;
}

const WORKER = new URL('./hash-worker.js', import.meta.url);

interface Waiting {
  resolve: (digest: string) => void;
  reject: (error: Error) => void;
}

export class HashThread {
  private readonly thread = new Worker(WORKER, { name: 'sha256' });
  /** Answers come in the order of the jobs. */
  private readonly waiting: Waiting[] = [];
  private failure: Error | undefined;
  private hashes = 0;

  constructor() {
    this.thread.unref();
    this.thread.on('message', (digest: string) => this.waiting.shift()?.resolve(digest));
    this.thread.on('error', (error) => this.fail(error));
    this.thread.on('exit', () => this.fail(new Error('The hashing thread has ended.')));
  }

  open(): RemoteHash {
    return new RemoteHash(this.hashes++, (job) => this.run(job));
  }

  async close(): Promise<void> {
    await this.thread.terminate();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private run(job: Job): Promise<string> {
    if (this.failure) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      this.thread.postMessage(job);
    });
  }

  private fail(error: Error): void {
    this.failure ??= error;
    for (const { reject } of this.waiting.splice(0)) reject(this.failure);
  }
}

export class RemoteHash {
  constructor(
    private readonly id: number,
    private readonly run: (job: Job) => Promise<string>,
  ) {}

  /** The bytes must be left alone until this resolves. */
  async update(bytes: SharedBytes): Promise<void> {
    await this.run({ id: this.id, bytes });
  }

  digest(): Promise<string> {
    return this.run({ id: this.id });
  }
}
