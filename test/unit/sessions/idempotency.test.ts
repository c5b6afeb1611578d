import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { sessionIdOfKey, sessionIdOfOldKey } from '../../../src/sessions/stored/ids.js';
import { makeWorld } from '../../support/fake-service.js';

const INPUT = { prompt: 'a red fox', maxSeconds: 2, pace: 'FASTEST', idempotencyKey: 'order-1001' } as const;

it('the id of a session is not to be told from its idempotency key, and differs from store to store', async () => {
  const [one, other] = [makeWorld(), makeWorld()];
  const made = await one.clock.until(one.service.createSession(INPUT));
  expect(made.id).not.toBe(sessionIdOfOldKey('order-1001'));
  const guess = createHash('sha256').update('order-1001').digest();
  expect(made.id).not.toBe(
    Array.from(guess.subarray(0, 26), (b) => '0123456789abcdefghjkmnpqrstvwxyz'[b & 31]).join(''),
  );
  expect((await other.clock.until(other.service.createSession(INPUT))).id).not.toBe(made.id);
  expect((await one.clock.until(one.service.createSession(INPUT))).id).toBe(made.id);
});

it('servers of one store agree on it, also when both are the first', async () => {
  const one = makeWorld();
  const other = makeWorld({ after: one });
  const made = await one.clock.until(
    Promise.all([one.service.createSession(INPUT), other.service.createSession({ ...INPUT })]),
  );
  expect(made[1].id).toBe(made[0].id);
});

it('keys of callers have nothing to do with each other', () => {
  const id = (caller?: string) => sessionIdOfKey('secret', 'order', caller);
  expect(new Set([id(), id('a'), id('b')]).size).toBe(3);
  expect(sessionIdOfKey('s', 'b', 'a')).not.toBe(sessionIdOfKey('s', 'a","b', ''));
});
