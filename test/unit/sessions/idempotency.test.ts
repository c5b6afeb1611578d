import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { sessionIdOfKey, sessionIdOfOldKey } from '../../../src/sessions/stored/ids.js';
import { keysOf } from '../../../src/sessions/stored/keys.js';
import { decodeRecord, encodeRecord } from '../../../src/sessions/stored/record.js';
import { readWhole } from '../../../src/sessions/stored/whole.js';
import { makeWorld, read } from '../../support/fake-service.js';

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

/** A record as releases wrote it before ids were keyed by a secret. */
async function withOldSession() {
  const world = makeWorld();
  const { idempotencyKey, ...rest } = INPUT;
  const made = await world.clock.until(world.service.createSession(rest));
  await world.clock.until(read(world, made.id));
  const id = sessionIdOfOldKey(idempotencyKey);
  const key = keysOf(made.id).record;
  const stored = await readWhole(key, await world.store.get(key));
  const record = decodeRecord(stored, 'record');
  const old = { ...record, id, snapshot: { ...record.snapshot, id } };
  await world.store.put(keysOf(id).record, encodeRecord(old));
  return { world, id };
}

it('finds a session that an earlier release made with the key', async () => {
  const { world, id } = await withOldSession();
  expect((await world.clock.until(world.service.createSession(INPUT))).id).toBe(id);
});

it('refuses the key of such a session for another input', async () => {
  const { world } = await withOldSession();
  const other = world.clock.until(world.service.createSession({ ...INPUT, prompt: 'a robot' }));
  await expect(other).rejects.toMatchObject({ code: 'CONFLICT' });
});
