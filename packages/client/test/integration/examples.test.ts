import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { S3_SERVER_TIMEOUT_MS, type S3Server, startS3Server } from '../../../../test/support/s3-server.js';
import { ServiceProcess } from '../../../../test/support/service-process.js';
import { WildProxy } from '../support/wild-proxy.js';

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));

let directory: string;
let service: ServiceProcess;

beforeAll(async () => {
  execFileSync(process.execPath, ['scripts/install.mjs', 'examples'], { cwd: ROOT });
  directory = mkdtempSync(join(tmpdir(), 'longlive-examples-'));
  service = await ServiceProcess.start({ store: `file://${directory}/store` });
});
afterAll(async () => {
  await service?.stop();
  rmSync(directory, { recursive: true, force: true });
});

const run = (command: string, example: string, arguments_: string[] = [], environment: NodeJS.ProcessEnv = {}) =>
  promisify(execFile)(command, [`examples/${example}`, ...arguments_], {
    cwd: ROOT,
    env: { ...process.env, LONGLIVE_URL: service.url, ...environment },
    timeout: 50_000,
  });

/** Of lines of JSON. */
const eventsOf = (text: string) =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

const indexesOf = (events: readonly Record<string, unknown>[]) =>
  events.flatMap(({ index }) => (index === undefined ? [] : [index]));

const isFilm = (file: string) => readFileSync(file).toString('latin1', 4, 8) === 'ftyp';

test('film.mjs writes an MP4', async () => {
  const file = join(directory, 'film.mp4');
  const { stdout } = await run(process.execPath, 'film.mjs', ['a red fox', file]);
  expect(stdout).toContain('of 6 s');
  expect(isFilm(file)).toBe(true);
});

test('stream.sh prints every event once, though its connections are cut', async () => {
  const proxy = await WildProxy.start(service.url);
  proxy.cutAfter = 3000;
  const { stdout } = await run('sh', 'stream.sh', ['a "red" fox\\'], { LONGLIVE_URL: proxy.url });
  await proxy.stop();
  expect(proxy.cuts).toBeGreaterThan(0);
  const ids = stdout.split('\n').filter((line) => line.startsWith('id: '));
  expect(new Set(ids).size).toBe(ids.length);
  const indexes = [...stdout.matchAll(/"index":(\d+)/g)].map(([, index]) => Number(index));
  expect(indexes).toEqual(Array.from({ length: indexes.length }, (_, index) => index));
  expect(stdout).toContain('"state":"COMPLETED"');
});

test.each(['apollo.mjs', 'urql.mjs'])('%s follows a session to its end', async (example) => {
  const { stdout } = await run(process.execPath, example);
  const events = eventsOf(stdout);
  expect(indexesOf(events)).toEqual([0, 1, 2, 3, 4]);
  expect(events.at(-1)).toMatchObject({ state: 'COMPLETED' });
});

describe('batch-to-s3.mjs', () => {
  let s3: S3Server;
  beforeAll(async () => void (s3 = await startS3Server()), S3_SERVER_TIMEOUT_MS);
  afterAll(() => s3?.stop());

  test('puts a film for each prompt into a bucket', async () => {
    const bucket = await s3.createBucket();
    const prompts = join(directory, 'prompts.txt');
    writeFileSync(prompts, 'a red fox\na blue robot\n\na yellow bird\n');
    const { endpoint, region, credentials } = s3;
    await run(process.execPath, 'batch-to-s3.mjs', [prompts], {
      ...{ BUCKET: bucket, AWS_ENDPOINT_URL: endpoint, AWS_REGION: region },
      ...{ AWS_ACCESS_KEY_ID: credentials.accessKeyId, AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey },
    });
    const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
    const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket: bucket }));
    client.destroy();
    expect(Contents.map(({ Key }) => Key)).toEqual(['1.mp4', '2.mp4', '3.mp4']);
    expect(Math.min(...Contents.map(({ Size }) => Size ?? 0))).toBeGreaterThan(1000);
  });
});
