import type { PromptFacts, SessionEvent } from '@longlive/client';
import { describe, expect, test } from 'vitest';
import { secondsOf } from '../src/lib/moment';
import { after, fromFacts, joined, type Prompt, shownAt } from '../src/lib/prompts';

const requested = (receiptId: string, prompt: string) =>
  ({ type: 'requested', receiptId, prompt, unknownWords: null }) as unknown as SessionEvent;
const applied = (receiptId: string, prompt: string, seconds: number) =>
  ({
    type: 'applied',
    receiptId,
    prompt,
    seconds,
    wholeSeconds: seconds,
    recacheMilliseconds: 20,
    waitedMilliseconds: 300,
  }) as unknown as SessionEvent;
const superseded = (receiptId: string) =>
  ({ type: 'superseded', receiptId, supersededBy: 'x' }) as unknown as SessionEvent;
const ended = { type: 'ended' } as unknown as SessionEvent;

const play = (...events: readonly [SessionEvent, number][]) =>
  events.reduce<readonly Prompt[]>((prompts, [event, seconds]) => after(prompts, event, seconds), []);

describe('prompts of a session', () => {
  test('are pending, then in effect, replaced or never shown', () => {
    const prompts = play(
      [requested('1', 'fox'), 2],
      [requested('2', 'bird'), 2.5],
      [superseded('1'), 2.5],
      [applied('2', 'bird', 3), 3],
      [requested('3', 'robot'), 5],
      [ended, 6],
    );
    expect(
      prompts.map(({ receiptId, outcome, askedSeconds, seconds }) => [receiptId, outcome, askedSeconds, seconds]),
    ).toEqual([
      ['1', 'superseded', 2, undefined],
      ['2', 'applied', 2.5, 3],
      ['3', 'discarded', 5, undefined],
    ]);
  });

  test('are told as they were moved, and as taken back', () => {
    const prompts = play(
      [requested('1', 'fox'), 0],
      [requested('2', 'bird'), 0],
      [{ type: 'moved', receiptId: '1', prompt: 'a red fox' } as unknown as SessionEvent, 1],
      [{ type: 'cancelled', receiptId: '2' } as unknown as SessionEvent, 1],
    );
    expect(prompts.map(({ prompt, outcome }) => [prompt, outcome])).toEqual([
      ['a red fox', 'pending'],
      ['bird', 'cancelled'],
    ]);
  });

  test('may be asked for by a time, however one writes it', () => {
    expect(['90', '1:30', '1m30s', '1:01:30', '0:00.5', ' ', '1:xx', '-1', ':30'].map(secondsOf)).toEqual([
      ...[90, 90, 90, 3690, 0.5],
      ...[undefined, undefined, undefined, undefined],
    ]);
  });

  test('are the same list after events that say nothing of them', () => {
    const prompts = play([requested('1', 'fox'), 0]);
    expect(after(prompts, { type: 'chunk' } as unknown as SessionEvent, 1)).toBe(prompts);
  });

  test('are joined from what was stored and what was seen, whichever is ahead', () => {
    const stored = fromFacts([
      {
        receiptId: '1',
        prompt: 'fox',
        outcome: 'applied',
        unknownWords: null,
        applied: { seconds: 0, wholeSeconds: 0, recacheMilliseconds: 1 },
      },
      { receiptId: '2', prompt: 'bird', outcome: 'pending', unknownWords: ['bird'], applied: undefined },
    ] as unknown as PromptFacts[]);
    const known = play([applied('2', 'bird', 3), 3], [requested('3', 'robot'), 4]);
    const all = joined(stored, known);
    expect(all.map(({ receiptId, outcome, seconds }) => [receiptId, outcome, seconds])).toEqual([
      ['1', 'applied', 0],
      ['2', 'applied', 3],
      ['3', 'pending', undefined],
    ]);
  });

  test('the one that is shown is the last that took effect by then', () => {
    const prompts = play([applied('1', 'fox', 0), 0], [applied('2', 'bird', 3), 3], [requested('3', 'robot'), 4]);
    expect([0, 2.9, 3, 90].map((seconds) => shownAt(prompts, seconds)?.prompt)).toEqual(['fox', 'fox', 'bird', 'bird']);
  });
});
