/**
 * Fetching a package through the product (verified, in order, durable in the cache) beside what the servers can give (the
 * same ranges, thrown away as they arrive) and what this disk can take, interleaved in one run on one machine.
 *
 *   npm run bench:fetch -- [--megabytes 1024] [--repeats 3] [--link 100] [--out bench/results/FILE.json]
 *
 * Servers: an S3-compatible one (versitygw, needs Go to be built once), a plain web server, and the same behind a link of
 * `--link` megabytes per second. Server and client share this machine's cores, as they do not in production.
 */
import { fork } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, statSync } from 'node:fs';
import { type FileHandle, mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, get, type IncomingMessage } from 'node:http';
import { cpus, loadavg, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { Transform } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { findSources, PackageCache } from '../src/packages/index.js';
import { S3Store } from '../src/storage/s3-store.js';
import { safeTensors, writePackage } from '../test/support/model-packages.js';
import { startS3Server } from '../test/support/s3-server.js';

const PART = 8 << 20;
const CONNECTIONS = 8;
const WEIGHTS = 'dit.safetensors';

// -- a plain web server, in a process of its own

/** Lets through so many bytes per second, over all connections together. */
class Link {
  private free = performance.now();

  constructor(private readonly bytesPerSecond: number) {}

  limit(): Transform {
    const wait = async (bytes: number) => {
      this.free = Math.max(this.free, performance.now()) + (1000 * bytes) / this.bytesPerSecond;
      const ahead = this.free - performance.now();
      if (ahead > 5) await sleep(ahead);
    };
    return new Transform({
      transform: (bytes: Buffer, _encoding, done) => void wait(bytes.length).then(() => done(null, bytes)),
    });
  }
}

function serve(directory: string, bytesPerSecond: number): void {
  const link = bytesPerSecond > 0 ? new Link(bytesPerSecond) : undefined;
  const server = createServer((request, response) => {
    const path = join(directory, decodeURIComponent(request.url ?? ''));
    const { size } = statSync(path);
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    const [start, end] = first === undefined ? [0, size - 1] : [Number(first), Number(last)];
    response.writeHead(first === undefined ? 200 : 206, {
      'content-length': end - start + 1,
      etag: '"1"',
      ...(first !== undefined && { 'content-range': `bytes ${start}-${end}/${size}` }),
    });
    const file = createReadStream(path, { start, end, highWaterMark: 1 << 18 });
    (link ? file.pipe(link.limit()) : file).pipe(response);
  });
  server.listen(0, '127.0.0.1', () => process.send?.((server.address() as { port: number }).port));
}

async function webServer(directory: string, bytesPerSecond: number): Promise<{ url: string; stop: () => void }> {
  const child = fork(import.meta.filename, ['--serve', directory, '--link', String(bytesPerSecond)]);
  const port = await new Promise<number>((ready) => child.once('message', (port) => ready(port as number)));
  return { url: `http://127.0.0.1:${port}/`, stop: () => void child.kill() };
}

// -- measuring

interface Row {
  what: string;
  /** Megabytes per second, of each repeat: thrown away, written to a file and synced, fetched by the product. */
  raw: number[];
  kept: number[];
  product: number[];
  /** Of the medians: what the product has of the server's speed, and of that of server and disk together. */
  shareOfRaw: number;
  shareOfKept: number;
  /** Most memory in buffers while the product fetched. */
  bufferMegabytes: number;
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

async function megabytesPerSecond(bytes: number, work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return bytes / 1e3 / (performance.now() - start);
}

/** The same ranges over as many connections as the product has, thrown away or written where they belong, unverified. */
async function readRaw(url: string, bytes: number, path?: string): Promise<void> {
  const file = path === undefined ? undefined : await open(path, 'w');
  let next = 0;
  const reader = async () => {
    for (let start = next; start < bytes; start = next) {
      next += PART;
      const headers = { range: `bytes=${start}-${Math.min(start + PART, bytes) - 1}` };
      const response = await new Promise<IncomingMessage>((answer, fail) =>
        get(url, { headers }, answer).on('error', fail),
      );
      if (response.statusCode !== 206) throw new Error(`The server answered ${response.statusCode}.`);
      if (file) await keep(response, file, start);
      else await once(response.resume(), 'end');
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, reader));
  await file?.datasync();
  await file?.close();
}

async function keep(response: IncomingMessage, file: FileHandle, start: number): Promise<void> {
  let at = start;
  for await (const bytes of response as AsyncIterable<Uint8Array>) {
    await file.write(bytes, 0, bytes.length, at);
    at += bytes.length;
  }
}

/** Into a cache that is new; gives the most memory that was in buffers meanwhile, in megabytes. */
async function fetchThroughProduct(
  address: string,
  directory: string,
  openStore: (url: string) => S3Store,
): Promise<number> {
  let most = 0;
  const watch = setInterval(() => (most = Math.max(most, process.memoryUsage().arrayBuffers)), 20);
  const before = process.memoryUsage().arrayBuffers;
  try {
    const cache = new PackageCache({ directory, limitBytes: 1e12 });
    const { sources, problems } = await findSources([address], cache, { openStore });
    if (!sources[0]) throw new Error(problems[0]?.message);
    await (await sources[0].hold()).release();
    return (most - before) / 1e6;
  } finally {
    clearInterval(watch);
  }
}

async function measure(
  what: string,
  { bytes, repeats, scratch }: { bytes: number; repeats: number; scratch: string },
  url: string,
  product: (directory: string) => Promise<number>,
): Promise<Row> {
  const speeds = { raw: [] as number[], kept: [] as number[], product: [] as number[] };
  let buffers = 0;
  const path = join(scratch, 'kept');
  for (let i = 0; i < repeats; i++) {
    speeds.raw.push(await megabytesPerSecond(bytes, () => readRaw(url, bytes)));
    speeds.kept.push(await megabytesPerSecond(bytes, () => readRaw(url, bytes, path)));
    await rm(path);
    const cache = join(scratch, 'cache');
    speeds.product.push(
      await megabytesPerSecond(bytes, async () => void (buffers = Math.max(buffers, await product(cache)))),
    );
    await rm(cache, { recursive: true });
  }
  const shareOf = (speed: number[]) => median(speeds.product) / median(speed);
  return {
    what,
    ...speeds,
    shareOfRaw: shareOf(speeds.raw),
    shareOfKept: shareOf(speeds.kept),
    bufferMegabytes: buffers,
  };
}

/** What verifying and keeping cost at the least: SHA-256 of bytes in memory, and a file written and synced. */
async function limits(scratch: string, bytes: number): Promise<{ sha256: number; diskWrite: number }> {
  const part = randomBytes(PART);
  const sha256 = await megabytesPerSecond(bytes, async () => {
    const hash = createHash('sha256');
    for (let at = 0; at < bytes; at += PART) hash.update(part);
  });
  const path = join(scratch, 'written');
  const diskWrite = await megabytesPerSecond(bytes, async () => {
    const file = await open(path, 'w');
    for (let at = 0; at < bytes; at += PART) await file.write(part);
    await file.datasync();
    await file.close();
  });
  await rm(path);
  return { sha256, diskWrite };
}

/** Random weights in a package that says so. */
async function makePackage(scratch: string, megabytes: number): Promise<string> {
  const weights = safeTensors({ weight: { shape: [0], values: [] } });
  return writePackage(scratch, 'large', {
    files: { [WEIGHTS]: Buffer.concat([weights, randomBytes(megabytes * 1e6 - weights.length)]) },
  });
}

async function main(megabytes: number, repeats: number, link: number, out: string | undefined): Promise<void> {
  const scratch = await mkdtemp(join(tmpdir(), 'longlive-fetch-'));
  const stops: (() => unknown)[] = [() => rm(scratch, { recursive: true })];
  try {
    const load = loadavg()[0];
    const directory = await makePackage(scratch, megabytes);
    const bytes = megabytes * 1e6;
    const rows: Row[] = [];
    const s3 = await startS3Server();
    stops.push(() => s3.stop());
    const options = { endpoint: s3.endpoint, region: s3.region, credentials: s3.credentials };
    const bucket = await s3.createBucket();
    const store = new S3Store({ ...options, bucket });
    for (const file of [
      'manifest.json',
      'config.json',
      'tokenizer.json',
      'text_encoder.safetensors',
      'vae.safetensors',
    ]) {
      await store.put(file, await readFile(join(directory, file)));
    }
    await store.putStream(WEIGHTS, createReadStream(join(directory, WEIGHTS)));
    const signed = await store.presign(WEIGHTS, { expiresInSeconds: 3600 });
    const run = { bytes, repeats, scratch };
    const openStore = () => store;
    const bucketUrl = `s3://${bucket}/`;
    rows.push(await measure('S3', run, signed, (cache) => fetchThroughProduct(bucketUrl, cache, openStore)));
    for (const limit of [0, link * 1e6]) {
      const web = await webServer(directory, limit);
      stops.push(web.stop);
      const what = limit > 0 ? `HTTP, link of ${link} MB/s` : 'HTTP';
      const product = (cache: string) => fetchThroughProduct(web.url, cache, openStore);
      rows.push(await measure(what, run, web.url + WEIGHTS, product));
    }
    const result = {
      date: new Date().toISOString().slice(0, 10),
      cpu: cpus()[0]?.model.trim() ?? 'unknown CPU',
      cores: cpus().length,
      node: process.version,
      /** Of the machine when it began; on a quiet one below 1. */
      load,
      megabytes,
      connections: CONNECTIONS,
      partMegabytes: PART / 1e6,
      ...(await limits(scratch, bytes)),
      rows,
    };
    const file = out ?? `bench/results/fetch-cpu-${result.date}.json`;
    await mkdir(dirname(resolve(file)), { recursive: true });
    await writeFile(file, `${JSON.stringify(result, null, 2)}\n`);
    for (const { what, raw, kept, product, shareOfRaw, shareOfKept, bufferMegabytes } of rows) {
      const [read, written, fetched] = [raw, kept, product].map((speeds) => median(speeds).toFixed(0));
      const shares = [shareOfRaw, shareOfKept].map((share) => `${(100 * share).toFixed(0)} %`).join(' and ');
      console.log(
        `${what}: product ${fetched}, server alone ${read}, server and disk ${written} MB/s (${shares}); buffers ${bufferMegabytes.toFixed(0)} MB`,
      );
    }
    console.log(
      `SHA-256 ${result.sha256.toFixed(0)} MB/s, disk ${result.diskWrite.toFixed(0)} MB/s; written to ${file}`,
    );
  } finally {
    for (const stop of stops.reverse()) await stop();
  }
}

const { values } = parseArgs({
  options: {
    megabytes: { type: 'string', default: '1024' },
    repeats: { type: 'string', default: '3' },
    link: { type: 'string', default: '100' },
    out: { type: 'string' },
    serve: { type: 'string' },
  },
});
if (values.serve !== undefined) serve(values.serve, Number(values.link));
else await main(Number(values.megabytes), Number(values.repeats), Number(values.link), values.out);
