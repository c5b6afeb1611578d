/**
 * A real S3-compatible server for tests: versitygw over a temporary directory. It checks signatures, serves ranges,
 * and enforces conditional writes. Built once from source with Go, into the user's cache.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { access, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';

const VERSION = 'v1.8.0';
const CACHE = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'longlive', `versitygw-${VERSION}`);
const REGION = 'us-east-1';
const START_TIMEOUT_MS = 30_000;
/** For the hook that calls `startS3Server`: the first build compiles a few hundred packages. */
export const S3_SERVER_TIMEOUT_MS = 900_000;

export interface S3Server {
  endpoint: string;
  region: string;
  credentials: { accessKeyId: string; secretAccessKey: string };
  /** Creates a bucket and returns its name. */
  createBucket(): Promise<string>;
  /** Ends the server and deletes its data. */
  stop(): Promise<void>;
}

/** Starts a server of one's own on a free loopback port. Rejects when it cannot be built or does not answer. */
export async function startS3Server(): Promise<S3Server> {
  const program = await buildOnce();
  const folder = await mkdtemp(join(tmpdir(), 'longlive-s3-'));
  const data = join(folder, 'data');
  const metadata = join(folder, 'metadata');
  await Promise.all([mkdir(data), mkdir(metadata)]);
  const port = await freePort();
  const credentials = { accessKeyId: 'test-access', secretAccessKey: randomUUID() };
  const server = spawn(program, ['--port', `127.0.0.1:${port}`, '--quiet', 'posix', '--sidecar', metadata, data], {
    env: {
      ...process.env,
      ROOT_ACCESS_KEY: credentials.accessKeyId,
      ROOT_SECRET_KEY: credentials.secretAccessKey,
      VGW_REGION: REGION,
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const killWithTests = (): void => void server.kill('SIGKILL');
  process.once('exit', killWithTests);
  const stop = async (): Promise<void> => {
    process.off('exit', killWithTests);
    await end(server);
    await rm(folder, { recursive: true, force: true });
  };
  const endpoint = `http://127.0.0.1:${port}`;
  try {
    await answers(endpoint, server);
  } catch (error) {
    await stop();
    throw error;
  }
  const client = new S3Client({ endpoint, region: REGION, credentials, forcePathStyle: true });
  const createBucket = async (): Promise<string> => {
    const Bucket = `test-${randomUUID()}`;
    await client.send(new CreateBucketCommand({ Bucket }));
    return Bucket;
  };
  return { endpoint, region: REGION, credentials, createBucket, stop };
}

async function buildOnce(): Promise<string> {
  const program = join(CACHE, 'versitygw');
  if (await exists(program)) return program;
  await mkdir(CACHE, { recursive: true });
  const build = await mkdtemp(join(CACHE, 'build-'));
  try {
    await promisify(execFile)('go', ['install', `github.com/versity/versitygw/cmd/versitygw@${VERSION}`], {
      env: { ...process.env, GOBIN: build },
    });
    await rename(join(build, 'versitygw'), program);
  } catch (error) {
    throw new Error(`the S3 server for tests could not be built; it needs Go 1.25 or later: ${String(error)}`, {
      cause: error,
    });
  } finally {
    await rm(build, { recursive: true, force: true });
  }
  return program;
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

async function answers(endpoint: string, server: ChildProcess): Promise<void> {
  let complaint = '';
  server.stderr?.on('data', (text: Buffer) => (complaint += text.toString()));
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (Date.now() < deadline) {
    if (server.exitCode !== null) break;
    if (await fetch(endpoint).catch(() => undefined)) return;
    await sleep(50);
  }
  throw new Error(`the S3 server does not answer: ${complaint}`);
}

async function end(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  const exited = new Promise((resolve) => server.once('exit', resolve));
  server.kill('SIGTERM');
  const patience = setTimeout(() => server.kill('SIGKILL'), 3000);
  await exited;
  clearTimeout(patience);
}
