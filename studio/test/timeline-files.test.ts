import type { SessionFacts } from '@longlive/client';
import { describe, expect, test } from 'vitest';
import { readTimeline, timelineText } from '../src/lib/timeline-files';

describe('timelines as files', () => {
  test('what is saved is read again', () => {
    const facts = { seed: '77', seconds: 9 } as SessionFacts;
    const prompt = (receiptId: string, text: string, seconds: number, wholeSeconds = seconds) =>
      ({ receiptId, prompt: text, unknownWords: [], outcome: 'applied', seconds, wholeSeconds }) as const;
    const text = timelineText(facts, [prompt('1', 'fox', 0), prompt('2', 'bird', 3, 6)]);
    expect(readTimeline(text)).toEqual({
      entries: [
        { atSeconds: 0, prompt: 'fox' },
        { atSeconds: 3, prompt: 'bird', overSeconds: 3 },
      ],
      ...{ seed: '77', maxSeconds: 9 },
    });
  });

  test("reads the service's own timeline.jsonl", () => {
    const lines = [
      { receiptId: '1', prompt: 'fox', block: 0, seconds: 0, wholeSeconds: 0, mode: 'RECACHE' },
      { receiptId: '2', prompt: 'bird', block: 4, seconds: 2.8125, wholeSeconds: 2.8125, mode: 'CLEAR_CACHE' },
    ];
    expect(readTimeline(lines.map((line) => JSON.stringify(line)).join('\n')).entries).toEqual([
      { atSeconds: 0, prompt: 'fox', mode: 'RECACHE' },
      { atSeconds: 2.813, prompt: 'bird', mode: 'CLEAR_CACHE' },
    ]);
  });

  test.each(['prompts', 'prompts_list'])('reads a story of LongLive, whose lines have %j', (name) => {
    const text = `${JSON.stringify({ [name]: ['fox', 'bird', 'robot'] })}\n${JSON.stringify({ [name]: ['another'] })}\n`;
    expect(readTimeline(text)).toEqual({
      entries: [
        { atSeconds: 0, prompt: 'fox' },
        { atSeconds: 10, prompt: 'bird' },
        { atSeconds: 20, prompt: 'robot' },
      ],
      maxSeconds: 30,
    });
  });

  test("reads scope's timeline: of a mixture what is strongest", () => {
    const text = JSON.stringify({
      prompts: [
        { startTime: 1, endTime: 4, prompts: [{ text: 'fox', weight: 100 }] },
        {
          startTime: 4,
          endTime: 9.5,
          prompts: [
            { text: 'rain', weight: 20 },
            { text: 'bird', weight: 80 },
          ],
          transitionSteps: 4,
        },
      ],
      settings: { pipelineId: 'longlive', seed: 42 },
      version: '2.1',
    });
    expect(readTimeline(text)).toEqual({
      entries: [
        { atSeconds: 0, prompt: 'fox' },
        { atSeconds: 3, prompt: 'bird', overSeconds: 3 },
      ],
      ...{ seed: '42', maxSeconds: 9.5 },
    });
  });

  test.each([
    ['', 'no timeline that is known'],
    ['[]', 'no timeline that is known'],
    ['{"a":1}', 'no timeline that is known'],
    ['nonsense', 'Line 1 is not JSON'],
    [JSON.stringify({ prompts: ['fox', ' '] }), 'Prompt 2 is empty'],
    [JSON.stringify({ prompts: Array(201).fill('fox') }), '201 prompts; at most 200'],
    [JSON.stringify({ prompts: ['x'.repeat(2001)] }), 'more than 2000 characters'],
    ['x'.repeat(2_000_001), 'too large'],
  ])('says what is wrong with a file', (text, words) => {
    expect(() => readTimeline(text)).toThrow(words);
  });
});
