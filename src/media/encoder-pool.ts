/**
 * H.264 encoding off the main thread. Every chunk is encoded by a fresh encoder, so chunks depend on nothing but their
 * own frames: any thread takes any chunk, a chunk is complete the moment its last frame is in, it always begins with a
 * key frame, and memory stays flat however long a session runs. Opening an encoder costs about a millisecond.
 */
import { Worker } from 'node:worker_threads';
import type { PictureJob } from '../sessions/ports.js';

export interface EncodeJob extends PictureJob {
  /** 0 (smallest files) to 10 (fastest). */
  speed: number;
}

type Reply = { file: Uint8Array } | { error: string };

const WORKER = new URL('./h264-worker.js', import.meta.url);

interface Task {
  job: EncodeJob;
  resolve: (file: Uint8Array) => void;
  reject: (error: Error) => void;
}

/** A fixed number of threads, started when first needed. They do not keep an idle process alive. */
export class EncoderPool {
  readonly #size: number;
  readonly #idle: Worker[] = [];
  readonly #waiting: Task[] = [];
  readonly #running = new Map<Worker, Task>();
  #closed = false;

  constructor(size: number) {
    if (!Number.isInteger(size) || size < 1)
      throw new RangeError(`an encoder pool needs at least one thread, not ${size}`);
    this.#size = size;
  }

  /** Starts a thread ahead of the first frames, which would wait for it. */
  warmUp(): void {
    if (this.#closed || this.#idle.length + this.#running.size > 0) return;
    const thread = this.#start();
    thread.unref();
    this.#idle.push(thread);
  }

  /** Encodes the frames and resolves with an MP4 file of their samples. Takes `job.frames` out of the caller's hands. */
  encode(job: EncodeJob): Promise<Uint8Array> {
    if (this.#closed) return Promise.reject(new Error('the encoder is closed'));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ job, resolve, reject });
      this.#dispatch();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const task of this.#waiting.splice(0)) task.reject(new Error('the encoder is closed'));
    await Promise.all([...this.#idle, ...this.#running.keys()].map((thread) => thread.terminate()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #dispatch(): void {
    if (this.#waiting.length === 0) return;
    const thread = this.#idle.pop() ?? (this.#running.size < this.#size ? this.#start() : undefined);
    if (!thread) return;
    const task = this.#waiting.shift()!;
    this.#running.set(thread, task);
    thread.ref();
    thread.postMessage(task.job, [task.job.frames.buffer as ArrayBuffer]);
  }

  #start(): Worker {
    const thread = new Worker(WORKER, { name: 'h264' });
    thread.on('message', (reply: Reply) => {
      if ('file' in reply) this.#finish(thread, reply.file);
      else this.#lose(thread, new Error(`H.264 encoding failed: ${reply.error}`));
    });
    thread.on('error', (error) => this.#lose(thread, error));
    thread.on('exit', (code) => this.#lose(thread, new Error(`the H.264 encoder stopped with code ${code}`)));
    return thread;
  }

  #finish(thread: Worker, file: Uint8Array): void {
    const task = this.#running.get(thread);
    this.#running.delete(thread);
    this.#idle.push(thread);
    thread.unref();
    task?.resolve(file);
    this.#dispatch();
  }

  /** Gives up a thread that died or failed, with the chunk it was at; the next chunk gets a new thread. */
  #lose(thread: Worker, error: Error): void {
    const at = this.#idle.indexOf(thread);
    if (at >= 0) this.#idle.splice(at, 1);
    this.#running.get(thread)?.reject(error);
    this.#running.delete(thread);
    void thread.terminate();
    if (!this.#closed) this.#dispatch();
  }
}
