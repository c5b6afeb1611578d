import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { checkExposure } from '../../../src/server/exposure.js';
import { loadConfig } from '../../../src/server/index.js';
import { withSecrets } from '../../../src/server/secrets.js';

interface Service {
  image?: string;
  build?: { target: string };
  environment?: Record<string, string>;
  volumes?: string[];
  tmpfs?: string[];
  command?: string[];
  restart?: string;
  read_only?: boolean;
  profiles?: string[];
  mem_limit?: string;
  healthcheck?: { test: string[] };
  deploy?: object;
  depends_on?: Record<string, { condition: string }>;
}

const file = (name: string) => readFileSync(new URL(`../../../${name}`, import.meta.url), 'utf8');
const compose = parse(file('compose.yaml'), { merge: true }) as {
  services: Record<string, Service>;
  configs: Record<string, { content: string }>;
};
const scratch = mkdtempSync(join(tmpdir(), 'longlive-containers-'));
afterAll(() => rmSync(scratch, { recursive: true }));

/** `${NAME:-value}` as Compose reads it where nothing is set. */
const plain = (environment: Record<string, string>) =>
  Object.fromEntries(
    Object.entries(environment).map(([key, value]) => [key, value.replace(/\$\{\w+:-([^}]*)\}/g, '$1')]),
  );

/** What the settings of a container come to at its first start; its directory of secrets stands in `scratch`. */
async function start(environment: Record<string, string>) {
  const secrets = join(scratch, environment['LONGLIVE_SECRETS'] ?? 'none');
  const { config, token } = await withSecrets(loadConfig({ ...environment, LONGLIVE_SECRETS: secrets }));
  checkExposure(config);
  return { config, token };
}

const images: Record<string, string>[] = file('Dockerfile')
  .split('\n')
  .filter((line) => line.startsWith('ENV ') && line.includes('HOST='))
  .map((line) =>
    Object.fromEntries([...line.matchAll(/(\w+)=(\S+)/g)].map(([, key = '', value = '']) => [key, value])),
  );

describe('the images', () => {
  test.each(images)('start by themselves, with a token and a key in their volume: %j', async (environment) => {
    expect(images).toHaveLength(2);
    expect(environment['LONGLIVE_SECRETS']).toMatch(/^\/data\/\./); // No key of the store begins with a dot.
    const { config, token } = await start(environment);
    expect(config).toMatchObject({ host: '0.0.0.0', token: token?.value });
    expect(config.signingKey).toBeDefined();
  });
});

describe('compose.yaml', () => {
  const { services } = compose;
  const { secrets, api, worker, prometheus } = services;
  const servers = ['api', 'worker', 'worker-gpu'].map((name) => services[name] as Service);

  test('makes the secrets once, where everybody who needs them reads them', () => {
    expect(secrets?.command?.slice(-3)).toEqual(['secrets', '/secrets', '--readable']);
    expect(secrets?.volumes).toContain('secrets:/secrets');
    for (const server of servers)
      expect(server.depends_on?.['secrets']).toEqual({ condition: 'service_completed_successfully' });
    for (const reader of [...servers, prometheus]) expect(reader?.volumes).toContain('secrets:/secrets:ro');
    expect(compose.configs['prometheus']?.content).toContain('credentials_file: /secrets/token');
  });

  test.each([
    ['api', 0],
    ['worker', 0],
    ['worker-gpu', 1],
  ])('gives %s what it asks for at a start, and starts it again when it ends', async (name, image) => {
    const server = services[name] as Service;
    const { config } = await start(plain({ ...images[image], ...server.environment }));
    expect(config).toMatchObject({
      ...{ host: '0.0.0.0', secrets: join(scratch, 'secrets'), store: 's3://longlive', redis: 'redis://valkey:6379' },
      role: name === 'api' ? 'api' : 'worker',
      device: name === 'worker-gpu' ? 'cuda' : 'cpu',
    });
    expect(config.token).toBeDefined();
    expect(server.restart).toBe('on-failure');
    expect(server.build?.target).toBe(name === 'worker-gpu' ? 'cuda' : 'cpu');
  });

  test('lets every server write where it has to, and nowhere else, and mounts what models are looked for in', () => {
    for (const server of servers) {
      expect(server).toMatchObject({ read_only: true, tmpfs: ['/tmp'] });
      expect(
        server.volumes?.some((volume) => volume.endsWith(`:${server.environment?.['LONGLIVE_MODEL_CACHE']}`)),
      ).toBe(true);
    }
    expect(plain(worker?.environment ?? {})['LONGLIVE_MODELS']).toBe('/app/models,/models');
    for (const each of servers.slice(1))
      expect(each.volumes?.some((volume) => volume.endsWith(':/models:ro'))).toBe(true);
    expect(api?.environment?.['LONGLIVE_MODELS']).toBeUndefined();
  });

  test('limits everybody in memory, and asks everybody who stays whether they are well', () => {
    for (const [name, { mem_limit, restart, healthcheck, build }] of Object.entries(services)) {
      expect(mem_limit, name).toBeDefined();
      // The image of the service has a check of its own.
      if (restart !== undefined && !build) expect(healthcheck, name).toBeDefined();
    }
    for (const server of servers) expect(server.depends_on?.['valkey']).toEqual({ condition: 'service_healthy' });
  });

  test('reserves a GPU where one is asked for, and only there', () => {
    const asking = Object.entries(services).filter(([, service]) =>
      JSON.stringify(service.deploy ?? {}).includes('"gpu"'),
    );
    expect(asking.map(([name]) => name)).toEqual(['worker-gpu']);
    expect(services['worker-gpu']?.profiles).toEqual(['gpu']);
  });

  test('scrapes every server by a name that it has', () => {
    const [, names = ''] = /names: \[([^\]]*)\]/.exec(compose.configs['prometheus']?.content ?? '') ?? [];
    expect(names.split(', ')).toEqual(['api', 'worker', 'worker-gpu']);
  });
});
