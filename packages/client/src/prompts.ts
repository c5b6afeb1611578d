/** The prompts of a session, as its receipts and its timeline tell them together. */
import type { GetPromptsQuery } from './generated/operations.js';

type Told = Extract<GetPromptsQuery['session'], { promptReceipts: unknown }>;
type ReceiptTold = NonNullable<Told['promptReceipts']>['nodes'][number];
type EntryTold = NonNullable<Told['timelineEntries']>['nodes'][number];

export interface PromptFacts extends Pick<ReceiptTold, 'prompt' | 'unknownWords' | 'supersededBy'> {
  readonly receiptId: string;
  /** Undefined for one that a fork has from its parent. */
  readonly requestedAt: string | undefined;
  readonly outcome: 'pending' | 'applied' | 'superseded' | 'cancelled' | 'discarded';
  /** Where it took effect. */
  readonly applied: Omit<EntryTold, 'receiptId' | 'prompt'> | undefined;
}

/** Both come newest first, and each may have what the other has not. */
export function promptsOf({ promptReceipts, timelineEntries }: Told): PromptFacts[] {
  const entries = new Map((timelineEntries?.nodes ?? []).map((entry) => [entry.receiptId, entry]));
  const asked = (promptReceipts?.nodes ?? []).map(({ id, status, ...receipt }): PromptFacts => {
    const applied = take(entries, id);
    const outcome = applied ? 'applied' : (status.toLowerCase() as PromptFacts['outcome']);
    return { ...receipt, receiptId: id, outcome, applied };
  });
  const others = [...entries.values()].map((entry): PromptFacts => {
    const { receiptId, prompt } = entry;
    const unasked = { requestedAt: undefined, unknownWords: null, supersededBy: null };
    return { ...unasked, receiptId, prompt, outcome: 'applied', applied: entry };
  });
  return [...asked, ...others].reverse();
}

function take(entries: Map<string, EntryTold>, id: string): EntryTold | undefined {
  const entry = entries.get(id);
  entries.delete(id);
  return entry;
}
