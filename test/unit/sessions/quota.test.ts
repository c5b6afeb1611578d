import { beforeEach, describe, expect, test } from 'vitest';
import { LocalMeter } from '../../../src/cluster/index.js';
import {
  type DomainError,
  GuardedSessions,
  type Meter,
  type Principal,
  type QuotaRules,
  Quotas,
  type Rule,
  type Scope,
  type SessionEvent,
  type Sessions,
} from '../../../src/sessions/index.js';

const NONE: QuotaRules = { tenant: {}, address: {}, streams: 0 };
const ann: Principal = { tenant: 'acme', subject: 'ann', scopes: new Set<Scope>(['session:create', 'session:watch']) };

let taken: { rule: Rule; whose: string; amount: number }[];
let meter: Meter;
beforeEach(() => {
  taken = [];
  const local = new LocalMeter();
  meter = {
    take: (rule, whose, amount) => (taken.push({ rule, whose, amount }), local.take(rule, whose, amount)),
    close: () => local.close(),
  };
});

const quotas = (rules: Partial<QuotaRules>) => new Quotas(meter, { ...NONE, ...rules });
const refusal = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    ({ code, message, retryAfterSeconds }: DomainError) => ({ code, message, retryAfterSeconds }),
  );

describe('what a tenant may use', () => {
  test('is one amount for all of its callers and addresses, and none of another tenant', async () => {
    const all = quotas({ tenant: { creations: 2 } });
    await all.of(ann, '192.0.2.1').spend('creations');
    await all.of({ ...ann, subject: 'bob' }, '192.0.2.2').spend('creations');
    const refused = await refusal(all.of(ann, '192.0.2.3').spend('creations'));
    expect(refused?.code).toBe('RATE_LIMIT');
    expect(refused?.message).toMatch(/^Your tenant may make 2 sessions a minute, and has; try again in \d+ seconds\.$/);
    expect(refused?.retryAfterSeconds).toBeGreaterThan(0);
    expect(refused?.retryAfterSeconds).toBeLessThanOrEqual(60);
    expect(await refusal(all.of({ ...ann, tenant: 'zenith' }, '192.0.2.1').spend('creations'))).toBeUndefined();
    expect(await refusal(all.of(ann, '192.0.2.1').spend('prompts'))).toBeUndefined();
  });

  test('is not used up by what an address or a key is refused', async () => {
    const all = quotas({ tenant: { creations: 10 }, address: { creations: 1 } });
    const key = { id: 'abc', allowance: { creations: 2 } };
    const from = (address: string) => refusal(all.of({ ...ann, key }, address).spend('creations'));
    expect(await from('192.0.2.1')).toBeUndefined();
    expect((await from('192.0.2.1'))?.message).toMatch(/^Your address may make 1 sessions? a minute/);
    expect(await from('192.0.2.2')).toBeUndefined();
    expect((await from('192.0.2.3'))?.message).toMatch(/^Your API key may make 2 sessions a minute/);
    expect(taken.filter(({ rule }) => rule.name === 'tenant:creations')).toHaveLength(2);
  });

  test('has no bound where there is no number, and nothing is counted', async () => {
    const unbounded = quotas({ tenant: { creations: 0 } }).of({ ...ann, key: { id: 'abc', allowance: {} } }, '::/64');
    for (let i = 0; i < 1000; i++) await unbounded.spend('creations');
    expect(taken).toEqual([]);
  });
});

describe('sessions as a caller sees them', () => {
  let asked: string[];
  const inner = new Proxy({} as Sessions, {
    get: (_, name: string) =>
      name === 'subscribe'
        ? async function* () {
            yield { type: 'Heartbeat' } as SessionEvent;
            yield { type: 'Heartbeat' } as SessionEvent;
          }
        : async () => (asked.push(name), { id: 's', tenant: 'acme' }),
  });
  beforeEach(() => void (asked = []));

  test.each([
    ['createSession', 'creations', 'session:create', [{ prompt: 'a' }]],
    ['forkSession', 'creations', 'session:fork', ['s']],
    ['switchPrompt', 'prompts', 'session:prompt', ['s', { prompt: 'a' }]],
    ['planPrompt', 'prompts', 'session:prompt', ['s', { prompt: 'a' }]],
    ['movePrompt', 'prompts', 'session:prompt', ['s', 'r', { prompt: 'a' }]],
  ] as const)('%s takes one of %s, of who may do it', async (name, what, scope, args) => {
    const all = quotas({ tenant: { [what]: 1 } });
    const sessionsOf = (scopes: Scope[]) => {
      const principal = { ...ann, scopes: new Set(scopes) };
      return new GuardedSessions(inner, principal, all.of(principal, '192.0.2.1'));
    };
    const call = (scopes: Scope[]) =>
      refusal((sessionsOf(scopes)[name] as (...given: unknown[]) => Promise<unknown>)(...args));
    expect((await call(['session:list']))?.code).toBe('FORBIDDEN');
    expect(await call([scope])).toBeUndefined();
    expect((await call([scope]))?.code).toBe('RATE_LIMIT');
    expect(asked.filter((each) => each === name)).toHaveLength(1);
  });

  test('have so many streams open at once, however they end', async () => {
    const all = quotas({ streams: 2 });
    const open = async (subject = 'ann') => {
      const principal = { ...ann, subject };
      const events = new GuardedSessions(inner, principal, all.of(principal, '192.0.2.1')).subscribe('s');
      await events.next();
      return events;
    };
    const [first, second] = [await open(), await open()];
    expect(await refusal(open())).toMatchObject({ code: 'RATE_LIMIT', retryAfterSeconds: 5 });
    await open('bob');
    await first.return();
    const third = await open();
    expect((await refusal(open()))?.code).toBe('RATE_LIMIT');
    while (!(await second.next()).done);
    await open();
    await third.return();
  });
});
