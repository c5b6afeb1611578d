import { describe, expect, test } from 'vitest';
import { promptsOf } from '../src/prompts.js';
import { createMock } from '../src/testing.js';

const receipt = (id: string, prompt: string, status: string) => ({
  ...{ id, prompt, status, unknownWords: null, supersededBy: null, requestedAt: '2026-01-01T00:00:00.000Z' },
});
const entry = (receiptId: string, prompt: string, seconds: number) => ({
  ...{ receiptId, prompt, seconds, wholeSeconds: seconds, mode: 'RECACHE', transition: null, block: 0 },
  recacheMilliseconds: 0,
});

describe('the prompts of a session', () => {
  test('are what was asked for, in order, with where it took effect', () => {
    const told = {
      promptReceipts: {
        nodes: [receipt('3', 'robot', 'PENDING'), receipt('2', 'bird', 'SUPERSEDED'), receipt('1', 'fox', 'APPLIED')],
      },
      timelineEntries: { nodes: [entry('1', 'fox', 0)] },
    };
    const prompts = promptsOf(told as never);
    expect(prompts.map(({ prompt, outcome, applied }) => [prompt, outcome, applied?.seconds])).toEqual([
      ['fox', 'applied', 0],
      ['bird', 'superseded', undefined],
      ['robot', 'pending', undefined],
    ]);
  });

  test('has those that took effect though nobody here asked for them, and believes the timeline', () => {
    const told = {
      promptReceipts: { nodes: [receipt('2', 'bird', 'PENDING')] },
      timelineEntries: { nodes: [entry('2', 'bird', 3), entry('1', 'fox', 0)] },
    };
    expect(promptsOf(told as never).map(({ prompt, outcome }) => [prompt, outcome])).toEqual([
      ['fox', 'applied'],
      ['bird', 'applied'],
    ]);
  });

  test('are asked for by the session, and sessions by the client', async () => {
    const live = createMock().client();
    const session = await live.create({ prompt: 'fox' });
    await session.switch('bird');
    expect((await session.prompts()).map(({ prompt }) => prompt)).toEqual(['bird']);
    const other = await session.fork({});
    const { sessions, next } = await live.sessions();
    expect([sessions.map(({ id }) => id), next]).toEqual([[other.id, session.id], undefined]);
    expect(new URL(other.facts.playlistUrl).origin).toBe('http://mock.invalid');
    expect(await live.models()).toEqual([]);
  });
});
