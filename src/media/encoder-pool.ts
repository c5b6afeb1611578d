/**
 * H.264 encoding off the main thread. Every chunk is encoded by a fresh encoder, so chunks depend on nothing but their
 * own frames: any worker takes any chunk, a chunk is complete the moment its last frame is in, it always begins with a
 * key frame, and memory stays flat however long a session runs. Opening an encoder costs about a millisecond.
 */
import { createRequire } from 'node:module';
import type { parentPort as ParentPort } from 'node:worker_threads';
import { Worker } from 'node:worker_threads';

export interface EncodeJob {
  width: number;
  height: number;
  fps: number;
  /** Planar I420 pictures, one after the other. */
  frames: Uint8Array;
  /** H.264 quantization parameter, 10 (best) to 51. */
  quantizer: number;
  /** 0 (smallest files) to 10 (fastest). */
  speed: number;
}

type Reply = { file: Uint8Array } | { error: string };

/** What the worker needs of the encoder's interface. */
interface WasmEncoder {
  width: number;
  height: number;
  frameRate: number;
  quantizationParameter: number;
  speed: number;
  groupOfPictures: number;
  outputFilename: string;
  FS: { readFile(path: string): Uint8Array; unlink(path: string): void };
  initialize(): void;
  addFrameYuv(frame: Uint8Array): void;
  finalize(): void;
  delete(): void;
}

interface WorkerScope {
  port: NonNullable<typeof ParentPort>;
  createEncoder: () => Promise<WasmEncoder>;
}

/**
 * Runs in the worker. Its source text is what the worker is started with, so it must not refer to anything outside:
 * a worker file of its own would have to be found both beside the sources and beside the compiled output.
 */
function workerMain({ port, createEncoder }: WorkerScope): void {
  const encode = async (job: EncodeJob): Promise<Uint8Array> => {
    const { width, height, frames } = job;
    const frameBytes = (width * height * 3) / 2;
    const count = frames.length / frameBytes;
    const encoder = await createEncoder();
    try {
      encoder.width = width;
      encoder.height = height;
      encoder.frameRate = job.fps;
      encoder.quantizationParameter = job.quantizer;
      encoder.speed = job.speed;
      encoder.groupOfPictures = count + 1;
      encoder.outputFilename = 'chunk.mp4';
      encoder.initialize();
      for (let i = 0; i < count; i++) encoder.addFrameYuv(frames.subarray(i * frameBytes, (i + 1) * frameBytes));
      encoder.finalize();
      const file = encoder.FS.readFile('chunk.mp4');
      encoder.FS.unlink('chunk.mp4');
      return file;
    } finally {
      encoder.delete();
    }
  };
  // Compiles the encoder before it is needed; what goes wrong will go wrong again when somebody is there to hear it.
  createEncoder().then(
    (encoder) => encoder.delete(),
    () => undefined,
  );
  port.on('message', (job: EncodeJob) => {
    encode(job).then(
      (file) => port.postMessage({ file } satisfies Reply, [file.buffer as ArrayBuffer]),
      (error: unknown) => port.postMessage({ error: String(error) } satisfies Reply),
    );
  });
}

const WORKER_SOURCE = `
  const { parentPort, workerData } = require('node:worker_threads');
  const { createH264MP4Encoder } = require(workerData.encoder);
  (${workerMain.toString()})({ port: parentPort, createEncoder: createH264MP4Encoder });
`;

interface Task {
  job: EncodeJob;
  resolve: (file: Uint8Array) => void;
  reject: (error: Error) => void;
}

/** A fixed number of workers, started when first needed. They do not keep an idle process alive. */
export class EncoderPool {
  readonly #size: number;
  readonly #idle: Worker[] = [];
  readonly #waiting: Task[] = [];
  readonly #running = new Map<Worker, Task>();
  #closed = false;

  constructor(size: number) {
    if (!Number.isInteger(size) || size < 1)
      throw new RangeError(`an encoder pool needs at least one worker, not ${size}`);
    this.#size = size;
  }

  /** Starts a worker ahead of the first frames, which would wait for it. */
  prepare(): void {
    if (this.#closed || this.#idle.length + this.#running.size > 0) return;
    const worker = this.#start();
    worker.unref();
    this.#idle.push(worker);
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
    await Promise.all([...this.#idle, ...this.#running.keys()].map((worker) => worker.terminate()));
  }

  #dispatch(): void {
    if (this.#waiting.length === 0) return;
    const worker = this.#idle.pop() ?? (this.#running.size < this.#size ? this.#start() : undefined);
    if (!worker) return;
    const task = this.#waiting.shift()!;
    this.#running.set(worker, task);
    worker.ref();
    worker.postMessage(task.job, [task.job.frames.buffer as ArrayBuffer]);
  }

  #start(): Worker {
    const encoder = createRequire(import.meta.url).resolve('h264-mp4-encoder');
    const worker = new Worker(WORKER_SOURCE, { eval: true, workerData: { encoder }, name: 'h264' });
    worker.on('message', (reply: Reply) => {
      if ('file' in reply) this.#finish(worker, reply.file);
      else this.#lose(worker, new Error(`H.264 encoding failed: ${reply.error}`));
    });
    worker.on('error', (error) => this.#lose(worker, error));
    worker.on('exit', (code) => this.#lose(worker, new Error(`the H.264 encoder stopped with code ${code}`)));
    return worker;
  }

  #finish(worker: Worker, file: Uint8Array): void {
    const task = this.#running.get(worker);
    this.#running.delete(worker);
    this.#idle.push(worker);
    worker.unref();
    task?.resolve(file);
    this.#dispatch();
  }

  /** Gives up a worker that died or failed, with the chunk it was at; the next chunk gets a new worker. */
  #lose(worker: Worker, error: Error): void {
    const at = this.#idle.indexOf(worker);
    if (at >= 0) this.#idle.splice(at, 1);
    this.#running.get(worker)?.reject(error);
    this.#running.delete(worker);
    void worker.terminate();
    if (!this.#closed) this.#dispatch();
  }
}
