/** What a store has to be able to do, as said to whoever chose one that is not. */
export const NO_CONDITIONAL_WRITES =
  'the store does not support conditional writes (If-None-Match, If-Match), which keep two servers from overwriting each ' +
  'other: use a server that does';

export const NO_RANGES =
  'the store sends whole objects where a part is asked for (Range), so downloads cannot seek or go on: use a server that sends parts';

/** Marks of sessions that wait, run or are being deleted have to go again. */
export const NO_DELETIONS =
  'the store does not let objects be deleted, which every session needs: allow it in the policy, without object lock';
