import { expect, it, vi } from 'vitest';
import { damage, loadSeeds, survive } from '../../fuzz/readers.js';
import { randomFrom } from '../../fuzz/mutate.js';

vi.setConfig({ testTimeout: 120_000 });

it('damaged checkpoints are refused with an ImportError or read, and nothing else happens', async () => {
  const seeds = await loadSeeds();
  const outcomes = { accepted: 0, refused: 0 };
  for (let run = 0; run < 40 * seeds.length; run++) {
    const seed = seeds[run % seeds.length] as (typeof seeds)[number];
    const accepted = await survive(seed.name, damage(seed, randomFrom(1_000 + run)));
    outcomes[accepted ? 'accepted' : 'refused']++;
  }
  // Both happen often, so the damage is neither everywhere nor nowhere.
  expect(outcomes.refused).toBeGreaterThan(100);
  expect(outcomes.accepted).toBeGreaterThan(20);
});
