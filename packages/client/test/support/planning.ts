import { expect } from 'vitest';
import { ConflictError, InvalidInputError, type Session, type SessionEvent } from '../../src/index.js';

/** What every service does with planned prompts: `session` rests with a chunk or more, `other` is the same in another client. */
export async function planAhead(session: Session, other: Session, goOn: () => Promise<unknown>): Promise<void> {
  const { cursor, chunks, seconds } = await session.refresh();
  const each = seconds / chunks;
  const [near, far, never] = [
    await session.plan('at dusk', { atBlock: chunks + 2 }),
    await session.plan('at night', { atSeconds: (chunks + 4) * each }),
    await session.plan('in the snow', { atBlock: chunks + 5, transition: { chunks: 2 } }),
  ];
  expect(far).toMatchObject({ status: 'PENDING', atBlock: chunks + 4 });
  expect((await other.planned()).map(({ prompt }) => prompt)).toEqual(['at dusk', 'at night', 'in the snow']);

  const moved = await other.move(far, { atBlock: chunks + 1, prompt: 'a starry night' });
  expect(moved).toMatchObject({ id: far.id, prompt: 'a starry night', atBlock: chunks + 1 });
  await other.move(far, { atBlock: chunks + 1, prompt: 'a starry night' });
  await other.cancel(never);
  await other.cancel(never);
  await expect(never.applied).resolves.toEqual({ status: 'cancelled' });
  expect((await session.planned()).map(({ id }) => id)).toEqual([far.id, near.id]);

  await expect(session.plan('too late', { atSeconds: 0 })).rejects.toThrow(InvalidInputError);
  await expect(session.plan('some time', {})).rejects.toThrow(InvalidInputError);
  await expect(session.plan('both', { atBlock: 99, atSeconds: 99 })).rejects.toThrow(InvalidInputError);
  await expect(session.move(never, { atBlock: 99 })).rejects.toThrow(ConflictError);

  await goOn();
  await expect(far.applied).resolves.toMatchObject({ status: 'applied', block: chunks + 1 });
  await expect(near.applied).resolves.toMatchObject({ status: 'applied', block: chunks + 2 });
  await expect(session.cancel(near)).rejects.toThrow(ConflictError);
  expect(await session.planned()).toEqual([]);
  const told = (await session.prompts()).slice(-3);
  expect(told.map(({ prompt, outcome }) => [prompt, outcome])).toEqual([
    ['at dusk', 'applied'],
    ['a starry night', 'applied'],
    ['in the snow', 'cancelled'],
  ]);
  expect(await promptEvents(other, cursor)).toEqual([
    ['requested', near.id],
    ['requested', far.id],
    ['requested', never.id],
    ['moved', far.id],
    ['cancelled', never.id],
    ['applied', far.id],
    ['applied', near.id],
  ]);
}

async function promptEvents(session: Session, after: string): Promise<string[][]> {
  const seen: string[][] = [];
  for await (const event of session.events({ after, media: 'NONE' })) {
    if (isOfPrompt(event)) seen.push([event.type, event.receiptId]);
    if (seen.length === 7) break;
  }
  return seen;
}

const isOfPrompt = (event: SessionEvent): event is Extract<SessionEvent, { receiptId: string }> => 'receiptId' in event;
