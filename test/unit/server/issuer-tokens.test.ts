import { createHmac } from 'node:crypto';
import { exportSPKI, generateKeyPair, type JWTHeaderParameters, type JSONWebKeySet } from 'jose';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Authenticator, type AuthenticatorParts } from '../../../src/server/credentials/authenticator.js';
import { ClientTokens } from '../../../src/server/credentials/client-tokens.js';
import { IssuerKeys, keySetAt } from '../../../src/server/credentials/issuer-keys.js';
import { IssuerTokens } from '../../../src/server/credentials/issuer-tokens.js';
import { KeyFile } from '../../../src/server/credentials/key-file.js';
import { KeyRing } from '../../../src/server/credentials/key-ring.js';
import { SILENT } from '../../../src/sessions/index.js';
import { answering, sign, type SigningKey, signingKey } from '../../support/issuer.js';
import { MemoryStore } from '../../support/memory-store.js';

const ISSUER = 'https://login.example/';
const NOW = Date.parse('2026-11-30T12:00:00Z');
const SECONDS = NOW / 1000;
const CLAIMS = {
  ...{ iss: ISSUER, aud: 'longlive', sub: 'ann', exp: SECONDS + 600, tenant: 'acme' },
  scope: 'openid session:create session:watch',
};

let now: number;
let ticks: number;
let keys: SigningKey[];
let published: () => Promise<JSONWebKeySet>;
let fetches: number;
let issuerKeys: IssuerKeys;

beforeAll(async () => {
  keys = await Promise.all([signingKey('e', 'EdDSA'), signingKey('p', 'ES256'), signingKey('r', 'RS256')]);
});
beforeEach(() => {
  [now, ticks, fetches] = [NOW, 0, 0];
  published = async () => ({ keys: keys.map(({ jwk }) => jwk) });
  issuerKeys = new IssuerKeys(
    () => (fetches++, published()),
    SILENT,
    () => ticks,
  );
});

async function authenticator(parts: Partial<AuthenticatorParts> = {}, claims = {}): Promise<Authenticator> {
  const ring = new KeyRing(new KeyFile(new MemoryStore()), SILENT, () => now);
  await ring.start();
  ring.close();
  const options = { issuer: ISSUER, audience: ['longlive', 'studio'], tenantClaim: 'tenant', scopeClaim: 'scope' };
  return new Authenticator({
    ...{ token: undefined, open: false, loopback: true, keys: ring, now: () => now },
    clientTokens: new ClientTokens('the key that signs', () => now),
    issuerTokens: new IssuerTokens({ ...options, ...claims, find: issuerKeys.find, now: () => now }),
    ...parts,
  });
}
const login = async (token: string, claims = {}) => (await authenticator({}, claims)).login(`Bearer ${token}`);
const [EDDSA, P256, RSA] = [0, 1, 2];
const key = (index = P256) => keys[index] as SigningKey;
const base64 = (value: object | string) =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

const without = (name: keyof typeof CLAIMS) =>
  Object.fromEntries(Object.entries(CLAIMS).filter(([claim]) => claim !== name));

describe("a token of the customer's identity provider", () => {
  test.each([EDDSA, P256, RSA])('says who calls, signed with the key %i', async (index) => {
    const found = await login(await sign(key(index), CLAIMS));
    expect(found?.principal).toEqual({
      ...{ tenant: 'acme', subject: 'jwt:ann', scopes: new Set(['session:create', 'session:watch']) },
      expires: new Date(NOW + 660_000),
    });
  });

  test('may have its scopes as a list, and tenant and scopes in other claims; admin and what we do not know are none', async () => {
    const scp = ['session:watch', 'admin', 'read', 'session:list'];
    const token = await sign(key(), { ...CLAIMS, tenant: 7, 'https://acme.example/org': 'zenith', scp });
    const found = await login(token, { tenantClaim: 'https://acme.example/org', scopeClaim: 'scp' });
    expect(found?.principal).toMatchObject({ tenant: 'zenith', scopes: new Set(['session:watch', 'session:list']) });
    expect((await login(await sign(key(), without('scope'))))?.principal.scopes).toEqual(new Set());
  });

  test('may be meant for several, of which one is this service', async () => {
    expect(await login(await sign(key(), { ...CLAIMS, aud: ['other', 'studio'] }))).toBeDefined();
  });

  test('is taken for a minute more than it says, and from a minute before, since clocks differ', async () => {
    const known = await authenticator();
    const token = `Bearer ${await sign(key(), { ...CLAIMS, nbf: SECONDS + 59 })}`;
    const found = await known.login(token);
    now = NOW + 659_000;
    expect([found?.valid(), (await known.login(token))?.valid()]).toEqual([true, true]);
    now += 1_000;
    expect([found?.valid(), await known.login(token)]).toEqual([false, undefined]);
  });

  const refusedClaims: [string, object][] = [
    ['without an end', without('exp')],
    ['that has ended', { ...CLAIMS, exp: SECONDS - 61 }],
    ['whose end is no number', { ...CLAIMS, exp: `${SECONDS + 600}` }],
    ['whose end is no date', { ...CLAIMS, exp: 1e300 }],
    ['that has not begun', { ...CLAIMS, nbf: SECONDS + 61 }],
    ['of another issuer', { ...CLAIMS, iss: 'https://login.example' }],
    ['of no issuer', without('iss')],
    ['of several issuers', { ...CLAIMS, iss: [ISSUER] }],
    ['for another service', { ...CLAIMS, aud: 'other' }],
    ['for nobody', without('aud')],
    ['for nobody in a list', { ...CLAIMS, aud: [] }],
    ['of nobody', without('sub')],
    ['of nobody by name', { ...CLAIMS, sub: '' }],
    ['of a number', { ...CLAIMS, sub: 7 }],
    ['of a very long name', { ...CLAIMS, sub: 'a'.repeat(256) }],
    ['without a tenant', without('tenant')],
    ['of a tenant that is none', { ...CLAIMS, tenant: '../acme' }],
    ['of a tenant with a line feed', { ...CLAIMS, tenant: 'acme\n' }],
    ['of two tenants', { ...CLAIMS, tenant: ['acme', 'zenith'] }],
    ['of a tenant in an object', { ...CLAIMS, tenant: { toString: 'acme' } }],
    ['whose scopes are an object', { ...CLAIMS, scope: { 'session:watch': true } }],
    ['whose scopes are a number', { ...CLAIMS, scope: 1 }],
    ['one of whose scopes is a list', { ...CLAIMS, scope: ['session:watch', ['admin']] }],
    ['of a thousand scopes and one', { ...CLAIMS, scope: Array<string>(1001).fill('a') }],
    ['that is huge', { ...CLAIMS, filler: 'a'.repeat(16 * 1024) }],
  ];
  test.each(refusedClaims)('%s is not taken', async (_what, claims) => {
    expect(await login(await sign(key(), claims))).toBeUndefined();
  });

  test.each(['__proto__', 'constructor', 'toString'])(
    'has no tenant in %s that it does not say',
    async (tenantClaim) => {
      expect(await login(await sign(key(), CLAIMS), { tenantClaim })).toBeUndefined();
    },
  );

  const refusedHeaders: [string, Partial<JWTHeaderParameters>][] = [
    ['with a key that nobody published', { kid: 'x' }],
    ['whose key is a path', { kid: '../../dev/null' }],
    ['whose key is a query', { kid: "p' OR '1'='1" }],
    ['with the name of a key of another kind', { kid: 'r' }],
    ['that must be understood in a way that we do not know', { crit: ['tenant'], tenant: 'acme' }],
  ];
  test.each(refusedHeaders)('%s is not taken', async (_what, header) => {
    expect(await login(await sign(key(), CLAIMS, header))).toBeUndefined();
  });

  test('that brings its own key, or says where it is, is not taken', async () => {
    const own = await signingKey('own');
    for (const header of [{ jwk: own.jwk }, { jku: 'http://127.0.0.1:9/keys' }, { x5u: 'http://127.0.0.1:9/keys' }])
      for (const kid of ['own', 'p']) expect(await login(await sign(own, CLAIMS, { ...header, kid }))).toBeUndefined();
    expect(fetches).toBe(1);
  });

  test('that nobody signed, or somebody with a public key as a secret, is not taken', async () => {
    const unsigned = (header: object) => `${base64(header)}.${base64(CLAIMS)}`;
    for (const alg of ['none', 'None', 'NONE', ''])
      for (const signature of ['', 'x'])
        expect(await login(`${unsigned({ alg, kid: 'p' })}.${signature}`)).toBeUndefined();
    const secrets = [await exportSPKI(key(RSA).publicKey), JSON.stringify(key(RSA).jwk), String(key(RSA).jwk.n)];
    for (const secret of secrets) {
      const signed = unsigned({ alg: 'HS256', kid: 'r' });
      const signature = createHmac('sha256', secret).update(signed).digest('base64url');
      expect(await login(`${signed}.${signature}`)).toBeUndefined();
    }
  });

  test('of other algorithms of the same keys, altered, encrypted or wrapped in another one is not taken', async () => {
    const { privateKey, publicKey } = await generateKeyPair('PS256', { extractable: true });
    const other = { privateKey, publicKey, jwk: { ...key(RSA).jwk, alg: 'PS256' } };
    expect(await login(await sign(other, CLAIMS))).toBeUndefined();
    const token = await sign(key(), CLAIMS);
    const [header = '', , signature = ''] = token.split('.');
    const wrapped = `${base64({ alg: 'ES256', kid: 'p', cty: 'JWT' })}.${base64(token)}.${signature}`;
    const altered = `${header}.${base64({ ...CLAIMS, tenant: 'zenith' })}.${signature}`;
    for (const wrong of [wrapped, altered, `${token}.`, `${token}.a.b`, `${token}A`, token.slice(0, -3), 'a.b.c'])
      expect(await login(wrong), wrong).toBeUndefined();
  });

  test('is no operator, and is asked for where there is a provider, also on this machine', async () => {
    const known = await authenticator();
    expect([known.asks, await known.login(undefined), await known.login('Bearer other')]).toEqual([
      true,
      undefined,
      undefined,
    ]);
    const open = await authenticator({ open: true, loopback: false });
    expect((await open.login(undefined))?.principal.scopes.has('admin')).toBe(false);
    expect((await open.login(`Bearer ${await sign(key(), CLAIMS)}`))?.principal.tenant).toBe('acme');
    expect(await open.login(`Bearer ${await sign(key(), { ...CLAIMS, aud: 'other' })}`)).toBeUndefined();
  });
});

describe("the provider's keys", () => {
  test('are asked for once in ten seconds at most, whatever strangers send, and a new one is found', async () => {
    const [old, fresh] = [key(), await signingKey('new')];
    const known = await authenticator();
    const tokenOf = async (signing: SigningKey) => `Bearer ${await sign(signing, CLAIMS)}`;
    expect(await known.login(await tokenOf(old))).toBeDefined();
    published = async () => ({ keys: [fresh.jwk] });
    const strangers = Array.from({ length: 50 }, async () => known.login(await tokenOf(await signingKey('stranger'))));
    await Promise.all(strangers);
    expect(fetches).toBe(1);
    ticks = 10_000;
    await Promise.all(Array.from({ length: 50 }, async () => known.login(await tokenOf(await signingKey('stranger')))));
    expect(fetches).toBe(2);
    expect(await known.login(await tokenOf(fresh))).toBeDefined();
    expect(await known.login(await tokenOf(old))).toBeUndefined();
  });

  test('that were had last are taken while the provider fails, or answers with none', async () => {
    const known = await authenticator();
    const token = `Bearer ${await sign(key(), CLAIMS)}`;
    expect(await known.login(token)).toBeDefined();
    const failures = [
      () => Promise.reject(new Error('no answer')),
      async () => ({ keys: [] }),
      async () => ({ keys: 'many' }) as unknown as JSONWebKeySet,
      async () => null as unknown as JSONWebKeySet,
    ];
    for (const failure of failures) {
      published = failure;
      ticks += 10_000;
      expect(await known.login(`Bearer ${await sign(await signingKey('stranger'), CLAIMS)}`)).toBeUndefined();
      expect(await known.login(token)).toBeDefined();
    }
    expect(fetches).toBe(1 + failures.length);
  });

  test('are not known while they were never had, and are asked for again', async () => {
    published = () => Promise.reject(new Error('no answer'));
    const known = await authenticator();
    const token = `Bearer ${await sign(key(), CLAIMS)}`;
    expect([await known.login(token), issuerKeys.known, fetches]).toEqual([undefined, false, 1]);
    published = async () => ({ keys: [key().jwk] });
    ticks = 10_000;
    expect([(await known.login(token))?.principal.tenant, issuerKeys.known]).toEqual(['acme', true]);
  });
});

describe("the address of the provider's keys", () => {
  const open: (() => void)[] = [];
  afterEach(() => open.splice(0).forEach((close) => close()));
  const fetched = async (listener: Parameters<typeof answering>[0], limit?: number) => {
    const answer = await answering(listener);
    open.push(() => answer.close());
    return keySetAt(answer.url, limit)();
  };

  test('is asked once, for JSON', async () => {
    let accept: string | undefined;
    const set = await fetched((request, response) => {
      accept = request.headers.accept;
      response.end(JSON.stringify({ keys: [key().jwk] }));
    });
    expect(accept).toContain('application/json');
    expect(set).toEqual({ keys: [key().jwk] });
  });

  test('may answer neither too slowly nor with too much, nor with something else', async () => {
    await expect(fetched(() => undefined, 50)).rejects.toThrow('it took longer than 50 ms');
    await expect(fetched((_, response) => void response.write('{'), 50)).rejects.toThrow('it took longer than 50 ms');
    await expect(
      fetched((_, response) => {
        const timer = setInterval(() => response.write(' '), 5);
        response.on('close', () => clearInterval(timer));
      }, 100),
    ).rejects.toThrow('it took longer than 100 ms');
    await expect(fetched((_, response) => response.end(' '.repeat(600_000)))).rejects.toThrow('more than 524288 bytes');
    await expect(fetched((_, response) => response.end('<html>'))).rejects.toThrow(SyntaxError);
    await expect(fetched((_, response) => response.writeHead(500).end('{"keys":[]}'))).rejects.toThrow('status 500');
    await expect(
      fetched((_, response) => response.writeHead(302, { location: 'http://127.0.0.1:9/' }).end()),
    ).rejects.toThrow('status 302');
  });
});
