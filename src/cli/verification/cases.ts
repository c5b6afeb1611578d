/** What every package is asked for, so that reports of different machines and packages can be laid beside each other. */

export interface Case {
  name: string;
  seed: number;
  /** The first is in force from block 0 on. */
  prompts: readonly { block: number; prompt: string }[];
}

/** The switched one begins as the plain one does: up to its switch both must show the same, and afterwards not. */
export const CASES: readonly Case[] = [
  { name: 'plain', seed: 1, prompts: [{ block: 0, prompt: 'a red fox runs on the grass by day' }] },
  {
    name: 'switched',
    seed: 1,
    prompts: [
      { block: 0, prompt: 'a red fox runs on the grass by day' },
      { block: 2, prompt: 'a blue robot walks on the road at night' },
    ],
  },
  { name: 'other', seed: 2, prompts: [{ block: 0, prompt: 'a yellow bird flies over the sea by day' }] },
];
export const BLOCKS = 4;
