/** What a store has to be able to do, as said to whoever chose one that is not. */
export const NO_CONDITIONAL_WRITES =
  'the store does not support conditional writes (If-None-Match, If-Match), which keep two servers from overwriting each ' +
  'other: use a server that does';
