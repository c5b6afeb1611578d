import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { checkExposure } from '../../../src/server/exposure.js';
import { loadConfig } from '../../../src/server/index.js';
import { withSecrets } from '../../../src/server/secrets.js';

interface Service {
  environment?: Record<string, string>;
  volumes?: string[];
  command?: string[];
  restart?: string;
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
  const { secrets, service, prometheus } = compose.services;

  test('makes the secrets once, where everybody who needs them reads them', () => {
    expect(secrets?.command?.slice(-3)).toEqual(['secrets', '/secrets', '--readable']);
    expect(secrets?.volumes).toContain('secrets:/secrets');
    expect(service?.depends_on?.['secrets']).toEqual({ condition: 'service_completed_successfully' });
    for (const reader of [service, prometheus]) expect(reader?.volumes).toContain('secrets:/secrets:ro');
    expect(compose.configs['prometheus']?.content).toContain('credentials_file: /secrets/token');
  });

  test('gives the service what it asks for at a start, and starts it again when it ends', async () => {
    const { config } = await start(plain({ ...images[0], ...service?.environment }));
    expect(config).toMatchObject({ host: '0.0.0.0', secrets: join(scratch, 'secrets'), store: 's3://longlive' });
    expect(config.token).toBeDefined();
    expect(service?.restart).toBe('on-failure');
  });
});
