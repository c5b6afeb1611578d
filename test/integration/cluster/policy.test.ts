import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { type Grant, STORE_GRANTS } from '../../../infra/lib/store-access.js';
import { control, create, sessionOf } from '../../support/control.js';
import { FaultyProxy } from '../../support/faulty-proxy.js';
import { Policy } from '../../support/policy.js';
import { RedisServer } from '../../support/redis-server.js';
import { S3_SERVER_TIMEOUT_MS, type S3Server, startS3Server } from '../../support/s3-server.js';
import { ServiceProcess } from '../../support/service-process.js';
import { until } from '../../support/test-server.js';
import { Watcher } from '../../support/watcher.js';

/** The servers as they are deployed on AWS, with no more rights than the deployment gives them. */

const LIMIT_MS = 180_000;
const PATIENT_MS = 60_000;
const MOST_PLACES = 4;

/** What is needed when an answer gets lost, an upload fails, a key is used, or `fsck` looks. */
const RARE = [
  's3:GetObject unfinished/*',
  's3:GetObject waiting/*',
  's3:GetObject exporting/*',
  's3:GetObject by-date/*',
  's3:PutObject access/used/*',
  's3:AbortMultipartUpload sessions/*',
];

let s3: S3Server;
let proxy: FaultyProxy;
let redis: RedisServer;
let bucket: string;
const running: ServiceProcess[] = [];

beforeAll(async () => {
  s3 = await startS3Server();
  proxy = await FaultyProxy.start(s3.endpoint);
  redis = await RedisServer.start();
}, S3_SERVER_TIMEOUT_MS);
afterAll(async () => {
  await proxy?.stop();
  await s3?.stop();
  await redis?.end();
});
beforeEach(async () => {
  await redis.client.flushall();
  bucket = await s3.createBucket();
});
afterEach(async () => {
  for (const server of running.splice(0).reverse()) await server.stop();
  proxy.heal();
});

async function start(role: 'api' | 'worker'): Promise<ServiceProcess> {
  const { accessKeyId, secretAccessKey } = s3.credentials;
  const server = await ServiceProcess.start({
    store: `s3://${bucket}`,
    settings: { ROLE: role, REDIS: redis.url, MAX_SESSIONS: 2, S3_ENDPOINT: proxy.endpoint, S3_REGION: s3.region },
    environment: { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey },
  });
  running.push(server);
  return server;
}

function under(grants: Grant[]): Policy {
  const policy = new Policy(grants);
  proxy.fault = policy.judge;
  return policy;
}

const wanted = async ({ url }: ServiceProcess) =>
  /^longlive_wanted_workers (\d+)$/m.exec(await (await fetch(`${url}/metrics`)).text())?.[1];

/** Asks until there is room, as a client does. */
async function made(api: ServiceProcess, input: object): Promise<string> {
  let id: string | undefined;
  await until(async () => (id = (await create(api.url, input)).id) !== undefined, 'a session is made', PATIENT_MS);
  return id as string;
}

const exportOf = (api: ServiceProcess, id: string) =>
  api.query<{ answer: { state: string } }>(
    'mutation ($id: ID!) { answer: exportSession(sessionId: $id, fromSeconds: 0, toSeconds: 1) { ... on Export { state } ... on Error { code message } } }',
    { id },
  );

it(
  'what the layout of the store says is enough, from the first start to the last deletion, and all of it is used',
  async () => {
    const policy = under(STORE_GRANTS);
    const api = await start('api');
    expect(await wanted(api)).toBe('0');
    const input = { prompt: 'a fox', pace: 'FASTEST', maxSeconds: 4, idempotencyKey: 'one' };
    expect(await create(api.url, input)).toMatchObject({ code: 'AT_CAPACITY' });
    expect(await wanted(api)).toBe('1');

    const worker = await start('worker');
    const id = await made(api, input);
    const watcher = new Watcher(id);
    await watcher.watch(api.url, ({ chunks }) => chunks > 2);
    const { fork } = await api.query<{ fork: { id: string } }>(
      'mutation ($id: ID!) { fork: forkSession(sessionId: $id, atChunk: 2, pace: FASTEST, maxSeconds: 4) { ... on Session { id } ... on Error { code message } } }',
      { id },
    );
    for (const each of [id, fork.id]) {
      await until(
        async () =>
          (await sessionOf(api.url, each)).state === 'COMPLETED' && (await exportOf(api, each)).answer.state === 'DONE',
        'it is complete and exported',
        PATIENT_MS,
      );
    }
    expect((await fetch(`${api.url}/readyz`)).status).toBe(200);

    // What another server left, somebody takes up, and a stopped server takes its name away.
    const endless = await made(api, { prompt: 'a robot' });
    await worker.stop();
    await start('worker');
    await until(async () => (await control(api.url, 'resume', endless)).state === 'LIVE', 'it goes on', PATIENT_MS);

    // As many as there is room for, and one that waits.
    const others: string[] = [];
    for (let reason: string | null | undefined; reason !== 'CAPACITY' && others.length < MOST_PLACES;) {
      const other = await create(api.url, { prompt: 'a car', maxWaitSeconds: 600 });
      reason = other.reason;
      others.push(other.id as string);
    }

    for (const each of [id, fork.id, endless, ...others]) {
      const remove =
        'mutation ($id: ID!) { answer: deleteSession(sessionId: $id) { ... on DeletedSession { sessionId } ... on Error { code message } } }';
      expect(await api.query(remove, { id: each })).toEqual({ answer: { sessionId: each } });
    }
    for (const server of running.splice(0)) await server.stop();

    expect(policy.refused).toEqual([]);
    const given = STORE_GRANTS.flatMap(({ actions, keys = ['bucket'] }) =>
      actions.flatMap((action) => keys.map((key) => `${action} ${key}`)),
    );
    expect(given.filter((grant) => !policy.used.has(grant))).toEqual(RARE);
  },
  LIMIT_MS,
);

it(
  'and less is not enough: the proxy refuses what is not allowed, and the service says so',
  async () => {
    const policy = under(
      STORE_GRANTS.map(({ actions, keys }) => ({
        actions,
        ...(keys && { keys: keys.filter((key) => key !== 'unfinished/*') }),
      })),
    );
    const api = await start('api');
    await start('worker');
    await until(
      async () => (await create(api.url, { prompt: 'a fox' })).code === 'STORAGE',
      'it is refused',
      PATIENT_MS,
    );
    expect(policy.refused.some((refused) => refused.startsWith('s3:PutObject unfinished/'))).toBe(true);
  },
  LIMIT_MS,
);
