import { type FrameChunk, isEnded, isSettled, type PromptApplied, type StoredEvent } from '../../src/sessions/index.js';
import { pictureOf } from './fake-media.js';
import { makeWorld, read, stored } from './fake-service.js';
import type { Told } from './schedules.js';
import type { MemoryStore } from './memory-store.js';
import type { VirtualClock } from './virtual-clock.js';

/** What is wrong with what is stored of a session that is over; read by a server that has just been started. */
export async function checkOutcome(
  world: { clock: VirtualClock; store: MemoryStore },
  id: string,
  told: Told,
): Promise<string[]> {
  const reader = makeWorld({ after: world });
  const events = stored(await world.clock.until(read(reader, id, { inline: true })));
  const problems = [
    ...orderOf(events),
    ...chunksOf(events),
    ...drawingOf(events),
    ...endOf(events),
    ...receiptsOf(events, told.receipts.get(id)),
    ...plansOf(events, told.moved),
  ];
  const chunks = events.filter(({ type }) => type === 'FrameChunk').length;
  const prefix = `sessions/${id}/checkpoints/`;
  for (const key of world.store.objects.keys()) {
    if (key.startsWith(prefix) && Number(key.slice(prefix.length, -'.safetensors'.length)) > chunks) {
      problems.push(`${key} is of blocks that the log does not have`);
    }
  }
  return problems.map((problem) => `${id}: ${problem}`);
}

function orderOf(events: StoredEvent[]): string[] {
  return events.every(({ sequence }, i) => sequence === i + 1) ? [] : ['the log has holes or repeats itself'];
}

function chunksOf(events: StoredEvent[]): string[] {
  const chunks = events.filter((event): event is FrameChunk => event.type === 'FrameChunk');
  const problems: string[] = [];
  chunks.forEach(({ chunk, data }, i) => {
    if (chunk !== i) problems.push(`chunk ${chunk} stands where ${i} should`);
    else if (!data || pictureOf(data).block !== i) problems.push(`chunk ${i} is missing or another one`);
  });
  return problems;
}

/** Whoever generated a chunk, and from whichever checkpoint: it was drawn for what the log says, transitions too. */
function drawingOf(events: StoredEvent[]): string[] {
  const problems: string[] = [];
  let from = '';
  let turn: PromptApplied | undefined;
  const expected = (block: number): string => {
    if (!turn) return '';
    const share = turn.transition && from ? (block - turn.block + 1) / turn.transition.chunks : 1;
    if (share >= 1) return turn.prompt;
    // Few of those that interrupted each other are kept.
    const parts = [...from.split(' > '), `${share} ${turn.prompt}`];
    const [first = '', ...rest] = parts.slice(-9);
    return [parts.length > 9 ? first.slice(first.indexOf(' ') + 1) : first, ...rest].join(' > ');
  };
  for (const event of events) {
    if (event.type === 'PromptApplied') {
      from = expected(event.block - 1);
      turn = event;
    }
    if (event.type !== 'FrameChunk' || !event.data) continue;
    const { prompt } = pictureOf(event.data);
    if (prompt !== expected(event.chunk)) {
      problems.push(`chunk ${event.chunk} was drawn for "${prompt}" and not for "${expected(event.chunk)}"`);
    }
  }
  return problems;
}

/** Once ended, nothing comes but SessionEnded, and that once. */
function endOf(events: StoredEvent[]): string[] {
  const end = events.findIndex((event) => event.type === 'StateChanged' && isEnded(event.state));
  const rest = events.slice(end + 1).map(({ type }) => type);
  if (end < 0) return ['it has not ended'];
  return rest.length === 1 && rest[0] === 'SessionEnded' ? [] : [`after its end come ${rest.join(', ') || 'nothing'}`];
}

/** What was acknowledged was logged once, and has one outcome at most; without one, the session ended first. */
function receiptsOf(events: StoredEvent[], acknowledged: ReadonlySet<string> = new Set()): string[] {
  const requested = events.flatMap((event) => (event.type === 'PromptRequested' ? [event.receiptId] : []));
  const settled = events.flatMap((event) => (isSettled(event) ? [event.receiptId] : []));
  const problems: string[] = [];
  if (new Set(requested).size < requested.length) problems.push('a request is logged twice');
  if (new Set(settled).size < settled.length) problems.push('a receipt is settled twice');
  for (const id of settled) if (!requested.includes(id)) problems.push('an outcome has no request');
  for (const id of acknowledged)
    if (!requested.includes(id)) problems.push('an acknowledged request is not in the log');
  return problems;
}

/** Nothing comes before its block; what was taken back does not come at all, and what was moved comes as it was told. */
function plansOf(events: StoredEvent[], moved: Told['moved']): string[] {
  const problems: string[] = [];
  const asked = new Map<string, { block: number; prompt: string }>();
  for (const event of events) {
    if (event.type === 'PromptRequested' || event.type === 'PromptMoved') {
      const block = typeof event.when === 'object' ? event.when.block : 0;
      asked.set(event.receiptId, { block, prompt: event.prompt });
    }
    if (event.type !== 'PromptApplied') continue;
    const last = moved.get(event.receiptId);
    if (last === null) problems.push(`"${event.prompt}" took effect though it was taken back`);
    if (typeof last === 'number' && event.block < last) problems.push(`"${event.prompt}" took effect before ${last}`);
    if (last !== undefined && asked.get(event.receiptId)?.prompt !== event.prompt) {
      problems.push(`"${event.prompt}" took effect, which was not asked for last`);
    }
  }
  return problems;
}
