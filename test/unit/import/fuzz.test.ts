import { describe, expect, it, vi } from 'vitest';
import { BOMBS } from '../../fuzz/bombs.js';
import { answerTo, damage, loadSeeds } from '../../fuzz/readers.js';
import { randomFrom } from '../../fuzz/mutate.js';

vi.setConfig({ testTimeout: 120_000 });

it('damaged checkpoints are refused with an ImportError or read, and nothing else happens', async () => {
  const seeds = await loadSeeds();
  const outcomes = { accepted: 0, refused: 0 };
  for (let run = 0; run < 40 * seeds.length; run++) {
    const seed = seeds[run % seeds.length] as (typeof seeds)[number];
    const answer = await answerTo(seed.name, damage(seed, randomFrom(1_000 + run)));
    outcomes[answer === undefined ? 'accepted' : 'refused']++;
  }
  // Both happen often, so the damage is neither everywhere nor nowhere.
  expect(outcomes.refused).toBeGreaterThan(100);
  expect(outcomes.accepted).toBeGreaterThan(20);
});

describe('what is small and unfolds costs what it is, and is refused by name', () => {
  it.each(BOMBS)('$name', async ({ file, bytes, refusal }) => {
    const answer = await answerTo(file, bytes());
    if (refusal) expect(answer).toMatch(refusal);
    else expect(answer).toBeUndefined();
  });
});
