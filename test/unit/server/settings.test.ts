import { readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { EXIT, explain } from '../../../src/cli/failure.js';
import { addSettings } from '../../../src/cli/settings.js';
import { configSchema, ConfigError, environmentName, loadConfig } from '../../../src/server/index.js';
import { checkExposure } from '../../../src/server/exposure.js';
import { describeSettings, settingsPage } from '../../../src/server/settings-reference.js';
import { openStore } from '../../../src/storage/index.js';

describe('the reference of settings', () => {
  test('is what the code says (npm run settings)', () => {
    expect(readFileSync(new URL('../../../docs/settings.md', import.meta.url), 'utf8')).toBe(settingsPage());
  });

  test('has every setting, with a meaning, and the help has the same', () => {
    const settings = describeSettings();
    expect(settings.map(({ name }) => name).sort()).toEqual(Object.keys(configSchema.shape).sort());
    const help = addSettings(new Command('serve')).configureHelp({ helpWidth: 10_000 }).helpInformation();
    for (const { flag, description, fallback, unit } of settings) {
      expect(description).not.toBe('');
      const line = help.split('\n').find((text) => text.trim().startsWith(`${flag.replace(' <value>', '')} `)) ?? '';
      expect(line).toContain(description);
      if (fallback !== undefined) expect(line).toContain(`default: ${fallback}${unit === undefined ? '' : ` ${unit}`}`);
    }
  });

  test.each([
    ['port', '4000x', 'must be a number in decimal digits; got "4000x"'],
    ['port', ' ', 'must be a number in decimal digits; got " "'],
    ['port', '0x10', 'must be a number in decimal digits; got "0x10"'],
    ['port', true, 'must be a number in decimal digits; got true'],
    ['maxSessions', '1e1', 'must be a number in decimal digits; got "1e1"'],
    ['mediaCacheMegabytes', '0b1', 'must be a number in decimal digits; got "0b1"'],
    ['token', 'a\nb', 'must be printable ASCII without blanks'],
    ['token', 'pässword', 'must be printable ASCII without blanks'],
    ['signingKey', ' '.repeat(16), 'must have at least 16 characters, blanks not counted; longlive secrets makes one'],
    ['port', '70000', 'must be at most 65535; got "70000"'],
    ['port', '1.5', 'must be a whole number; got "1.5"'],
    ['mediaCacheMegabytes', '0', 'must be at least 1; got "0"'],
    ['precision', 'int9', 'must be one of auto, fp32, bf16, int8, fp8; got "int9"'],
    ['open', 'maybe', 'must be true or false; got "maybe"'],
  ])('says in plain words what is wrong with %s=%s', (name, value, message) => {
    expect(() => loadConfig({}, { [name]: value })).toThrow(`${name} (${environmentName(name)}): ${message}`);
  });

  test('a flag that is on or off needs no value', () => {
    const parse = (...flags: string[]) =>
      loadConfig({}, addSettings(new Command('serve')).parse(flags, { from: 'user' }).opts());
    expect(parse().open).toBe(false);
    expect(parse('--open').open).toBe(true);
    expect(parse('--open', 'false', '--graphiql', 'false')).toMatchObject({ open: false, graphiql: false });
  });
});

describe('addresses in settings', () => {
  const WEB = ['publicUrl', 's3Endpoint', 's3PublicEndpoint'];
  const load = (setting: string, value: string) => () => loadConfig({}, { [setting]: value });

  test.each([
    ['localhost:4104', 'write http://localhost:4104 or https://localhost:4104'],
    ['video.example', 'write http://video.example or https://video.example'],
    ['//video.example', 'https://'],
    ['http:video.example', 'https://'],
    ['http:///video.example', 'https://'],
    ['ftp://video.example', 'https://'],
    ['javascript:alert(1)', 'https://'],
    ['https://me:secret@video.example', 'write https://video.example'],
    ['https://video.example/?a=1', 'https://'],
    ['https://video.example/#a', 'https://'],
    ['https://video.example\\a', 'https://'],
    ['https://vi\ndeo.example', 'https://'],
    ['https://[bad', 'https://'],
    ['https://a:99999', 'https://'],
    ['https://<a>', 'https://'],
  ])('%j is no address of the web', (value, instead) => {
    for (const setting of WEB) {
      expect(load(setting, value)).toThrow(ConfigError);
      expect(load(setting, value)).toThrow(instead);
      expect(load(setting, value)).not.toThrow('secret');
    }
  });

  test('are kept as browsers write them, without a slash at the end', () => {
    for (const setting of WEB) {
      expect(load(setting, ' HTTPS://Video.Example:443/app/ ')()).toMatchObject({
        [setting]: 'https://video.example/app',
      });
      expect(load(setting, 'http://[::1]:4000')()).toMatchObject({ [setting]: 'http://[::1]:4000' });
    }
    expect(
      load('corsOrigins', 'HTTPS://Video.Example:443/, http://[::1]:4000,capacitor://localhost,*')().corsOrigins,
    ).toEqual(['https://video.example', 'http://[::1]:4000', 'capacitor://localhost', '*']);
    expect(load('hosts', 'Video.Example:8443,[0:0::1]:4000,2001:db8:0::7,10.0.0.1,*')().hosts).toEqual([
      'video.example',
      '::1',
      '2001:db8::7',
      '10.0.0.1',
      '*',
    ]);
  });

  test.each([
    ['corsOrigins', 'notanorigin', 'write http://notanorigin or https://notanorigin'],
    ['corsOrigins', 'null', 'write https://video.example'],
    ['corsOrigins', 'NULL/', 'https://'],
    ['corsOrigins', 'https://a.example/path', 'https://'],
    ['corsOrigins', 'https://a.example,https://*.a.example', 'https://'],
    ['corsOrigins', 'http://a:99999', 'https://'],
    ['hosts', '[bad', 'instead of "[bad"'],
    ['hosts', 'https://video.example', 'write video.example'],
    ['hosts', 'video.example/path', 'write video.example'],
    ['hosts', '*.video.example', 'write video.example'],
    ['hosts', 'localhost,a b', 'instead of "a b"'],
  ])('%s takes no %j, and says what instead', (setting, value, instead) => {
    expect(load(setting, value)).toThrow(ConfigError);
    expect(load(setting, value)).toThrow(instead);
  });
});

describe('a start', () => {
  const start = (settings: Record<string, unknown>) => () => checkExposure(loadConfig({}, settings));

  test('is on loopback unless told otherwise', () => {
    expect(loadConfig({}).host).toBe('127.0.0.1');
    for (const host of ['127.0.0.1', '127.0.0.9', '::1', 'localhost', 'LOCALHOST']) start({ host })();
  });

  test.each(['0.0.0.0', '::', '192.0.2.1', 'video.example', '::ffff:192.0.2.1', '0'])(
    'on %s needs a token or --open, and says so',
    (host) => {
      expect(start({ host })).toThrow(ConfigError);
      expect(start({ host })).toThrow(/LONGLIVE_TOKEN[\s\S]*--open/);
      start({ host, open: true })();
      start({ host, token: 'a-token' })();
    },
  );

  const provider = {
    jwtIssuer: 'https://login.example/',
    jwtAudience: 'longlive',
    jwtJwks: 'https://login.example/keys',
  };

  test('elsewhere may do with an identity provider, all of it', () => {
    start({ host: '0.0.0.0', ...provider })();
    for (const [missing, variable] of [
      ['jwtIssuer', 'LONGLIVE_JWT_ISSUER'],
      ['jwtAudience', 'LONGLIVE_JWT_AUDIENCE'],
      ['jwtJwks', 'LONGLIVE_JWT_JWKS'],
    ] as const)
      for (const host of ['0.0.0.0', '127.0.0.1'])
        expect(start({ host, token: 'a-token', ...provider, [missing]: undefined })).toThrow(variable);
  });

  test.each([
    'http://login.example/keys',
    'https://user:secret@login.example/keys',
    'https://login.example/keys#1',
    'ftp://login.example/keys',
    'file:///etc/keys',
    'login.example/keys',
    'http://127.0.0.1.login.example/keys',
  ])('takes no keys of a provider from %s', (jwtJwks) => {
    expect(start({ ...provider, jwtJwks })).toThrow(/LONGLIVE_JWT_JWKS[^]*https:/);
  });

  test('takes keys of a provider over TLS, and from this machine', () => {
    for (const jwtJwks of [
      'https://login.example/keys?policy=1',
      'http://127.0.0.1:8080/k',
      'http://[::1]/k',
      'http://localhost/k',
    ])
      start({ ...provider, jwtJwks })();
  });

  test('of one among several needs what they reach each other through', () => {
    const redis = 'redis://user:secret@cache.example:6380/1';
    for (const role of ['api', 'worker']) {
      expect(start({ role })).toThrow(/LONGLIVE_ROLE[\s\S]*LONGLIVE_REDIS/);
      start({ role, redis, signingKey: 'a key of some length' })();
    }
    start({ role: 'all' })();
    expect(start({ redis })).toThrow(/LONGLIVE_SIGNING_KEY/);
    expect(start({ redis: 'http://cache.example' })).toThrow(/LONGLIVE_REDIS[\s\S]*redis:\/\//);
    expect(start({ role: 'none' })).toThrow(ConfigError);
  });

  test('on what replicas share needs a signing key that they share', () => {
    expect(start({ store: 's3://bucket' })).toThrow(/LONGLIVE_SIGNING_KEY[\s\S]*LONGLIVE_SECRETS/);
    expect(start({ store: 'S3://bucket/prefix' })).toThrow(ConfigError);
    start({ store: 's3://bucket', signingKey: 'a key of some length' })();
    start({ store: 'file:///data' })();
  });
});

describe('a start that cannot serve', () => {
  test.each([
    ['is a file', fileURLToPath(import.meta.url)],
    ['is under a file', `${fileURLToPath(import.meta.url)}/data`],
  ])('is refused where the store %s, with what to do', (what, store) => {
    for (const url of [pathToFileURL(store).href, `file:${relative('.', store)}`])
      expect(() => openStore(url)).toThrow(new RegExp(`${what}; use a directory$`));
  });

  test('says without a stack that the host has no address', () => {
    const error = Object.assign(new Error('getaddrinfo ENOTFOUND nosuch.invalid'), { syscall: 'getaddrinfo' });
    expect(explain(error)).toEqual({ exitCode: EXIT.usage, message: error.message });
  });
});
